"""Mark of an installation: whether it is a development stack.

`erasestream provision` writes it into a topic that only the administrator can write, and every
reader of decisions takes it from there, and not from its own settings.
"""

from enum import StrEnum
from typing import ClassVar

from erasestream.schemas.events.base import TimedEvent


class Environment(StrEnum):
    """Kind of stack: grants by operators count in a development stack only."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class InstallationMarked(TimedEvent):
    """The administrator provisioned the installation as one of this kind."""

    type: ClassVar[str] = "com.backgrounderase.installation.marked.v1"
    body: ClassVar[frozenset[str] | None] = frozenset({"environment"})

    environment: Environment
