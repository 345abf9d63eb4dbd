"""Who may do what in the two buckets: data, and the one question that is asked of it.

Whatever no rule grants is denied.  There is no rule for everybody, and none that overwrites:
that takes create *and* delete on one name, which no role has in the image bucket and only
the rotator has in the vault.  Names of actions are those of Google Cloud's permissions.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

KEYS = "keys/"
ERASED = "erased/"


class Action(StrEnum):
    """What can be done in a bucket."""

    LIST = "storage.objects.list"
    READ = "storage.objects.get"
    CREATE = "storage.objects.create"
    DELETE = "storage.objects.delete"
    CONFIGURATION = "storage.buckets.get"


class Role(StrEnum):
    """The identities that a bucket knows."""

    SINK = "sink"
    READER = "reader"
    ERASER = "eraser"
    ROTATOR = "rotator"
    AUDITOR = "auditor"


class Rule(NamedTuple):
    """A role may do these actions on names that begin with the prefix (all, if it is empty)."""

    role: Role
    actions: frozenset[Action]
    prefix: str = ""


def _rule(role: Role, *actions: Action, prefix: str = "") -> Rule:
    return Rule(role, frozenset(actions), prefix)


IMAGES: tuple[Rule, ...] = (
    _rule(Role.SINK, Action.CREATE),
    _rule(Role.READER, Action.LIST, Action.READ),
    _rule(Role.ERASER, Action.LIST, Action.DELETE),
    _rule(Role.AUDITOR, Action.LIST, Action.READ, Action.CONFIGURATION),
)
"""The image bucket: what is read is sealed, for the auditor too."""

VAULT: tuple[Rule, ...] = (
    _rule(Role.SINK, Action.CREATE, Action.READ, prefix=KEYS),
    _rule(Role.SINK, Action.READ, prefix=ERASED),
    _rule(Role.READER, Action.READ, prefix=KEYS),
    _rule(Role.READER, Action.READ, prefix=ERASED),
    _rule(Role.ERASER, Action.CREATE, prefix=ERASED),
    _rule(Role.ERASER, Action.LIST, Action.DELETE, prefix=KEYS),
    _rule(Role.ROTATOR, Action.LIST, Action.READ, Action.CREATE, Action.DELETE, prefix=KEYS),
    _rule(Role.ROTATOR, Action.READ, prefix=ERASED),
    _rule(Role.AUDITOR, Action.LIST, Action.CONFIGURATION),
)
"""The vault: one wrapped key per grant below `keys/`, one marker per erased grant."""


def allows(rules: Iterable[Rule], role: str, action: Action, name: str = "") -> bool:
    """Whether the role may do this to an object (or list names that begin with `name`)."""
    return any(
        rule.role == role and action in rule.actions and name.startswith(rule.prefix)
        for rule in rules
    )


def permissions(rules: Iterable[Rule], role: str) -> frozenset[Action]:
    """Everything that the role may do somewhere in the bucket."""
    return frozenset[Action]().union(*(rule.actions for rule in rules if rule.role == role))
