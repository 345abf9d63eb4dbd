"""What the demo tells whoever watches it."""

from enum import StrEnum
from typing import Protocol


class Counted(StrEnum):
    """What grows while the demo runs."""

    READY = "stages ready"
    SENT = "uploads sent"
    TAKEN = "results received"
    STORED = "objects stored"


class Viewer(Protocol):
    """The terminal, or a test."""

    def say(self, line: str) -> None:
        """One line about what happens now."""

    def show(self, what: Counted, *, done: int, total: int) -> None:
        """How far something is."""
