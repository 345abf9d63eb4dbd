"""Access policy of the two buckets: a table of rules, and two lookups in it.

Default deny.  No rule applies to every role, and none permits overwriting: that takes create
*and* delete on one name, which no role has in the image bucket, and in the vault only the rotator
and the key service, each on the keys that it keeps.  Names of actions are those of Google Cloud's
permissions.

Cloud Storage answers that an object does not exist only to those who may list the whole bucket;
to others, that it is denied.  A role that reads or deletes may therefore list: 404 means absent.

A role that creates or deletes also sees the configuration of its bucket and refuses to start on one
that is public or cannot forget (`bucket_privacy.py`).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

KEYS = "keys/"
ERASED = "erased/"
PLACES = "places/"
EPOCHS = "epochs/"
DESTROYED = "destroyed/"
MASTERS = "masters/"
LOG = "log/"
COSIGNATURES = "log/cosignatures/"
OF_THE_LOG = ("log/batches/", "log/checkpoints/", "log/ids/", "log/tile/")
"""Folders that the log's writer fills.  An object of its own among the auditor's cosignatures would
keep a checkpoint from being cosigned."""


class Action(StrEnum):
    """A permission on a bucket or its objects."""

    LIST = "storage.objects.list"
    READ = "storage.objects.get"
    CREATE = "storage.objects.create"
    DELETE = "storage.objects.delete"
    CONFIGURATION = "storage.buckets.get"
    POLICY = "storage.buckets.getIamPolicy"


class Role(StrEnum):
    """An identity with access to a bucket."""

    SINK = "sink"
    READER = "reader"
    ERASER = "eraser"
    ROTATOR = "rotator"
    AUDITOR = "auditor"
    KEYS = "keys"


class Rule(NamedTuple):
    """Grant of some actions to a role, on names that begin with the prefix (empty: all names)."""

    role: Role
    actions: frozenset[Action]
    prefix: str = ""


VERIFY = (Action.CONFIGURATION, Action.POLICY)
"""Rights with which a role verifies that a bucket is private and forgets."""


def _rule(role: Role, *actions: Action, prefix: str = "") -> Rule:
    return Rule(role, frozenset(actions), prefix)


IMAGES: tuple[Rule, ...] = (
    _rule(Role.SINK, Action.CREATE, *VERIFY),
    _rule(Role.READER, Action.LIST, Action.READ),
    _rule(Role.ERASER, Action.LIST, Action.DELETE, *VERIFY),
    _rule(Role.AUDITOR, Action.LIST, Action.READ, *VERIFY),
)
"""The image bucket.  Every object in it is sealed, for the auditor too."""

VAULT: tuple[Rule, ...] = (
    _rule(Role.SINK, Action.CREATE, Action.READ, prefix=KEYS),
    _rule(Role.SINK, Action.READ, prefix=ERASED),
    _rule(Role.SINK, Action.LIST, *VERIFY),
    _rule(Role.READER, Action.READ, prefix=KEYS),
    _rule(Role.READER, Action.READ, prefix=ERASED),
    _rule(Role.READER, Action.LIST),
    _rule(Role.ERASER, Action.CREATE, Action.READ, prefix=ERASED),
    _rule(Role.ERASER, Action.DELETE, prefix=KEYS),
    _rule(Role.ERASER, Action.READ, prefix=LOG),
    *(_rule(Role.ERASER, Action.CREATE, prefix=each) for each in OF_THE_LOG),
    _rule(Role.ERASER, Action.CREATE, Action.READ, prefix=PLACES),
    _rule(Role.ERASER, Action.LIST, *VERIFY),
    _rule(Role.ROTATOR, Action.READ, Action.CREATE, Action.DELETE, prefix=KEYS),
    _rule(Role.ROTATOR, Action.READ, prefix=ERASED),
    _rule(Role.ROTATOR, Action.CREATE, prefix=MASTERS),
    _rule(Role.ROTATOR, Action.LIST, *VERIFY),
    _rule(Role.AUDITOR, Action.LIST, *VERIFY),
    _rule(Role.AUDITOR, Action.READ, prefix=LOG),
    _rule(Role.AUDITOR, Action.CREATE, prefix=COSIGNATURES),
    _rule(Role.KEYS, Action.READ, Action.CREATE, Action.DELETE, prefix=EPOCHS),
    _rule(Role.KEYS, Action.READ, Action.CREATE, Action.DELETE, prefix=DESTROYED),
    _rule(Role.KEYS, Action.LIST, *VERIFY),
)
"""The vault: one wrapped key per grant below `keys/`, one marker per erased grant, and below
`epochs/` one wrapped key for each epoch and purpose.  Below `masters/` is a note for each version
of the grants' master key that was destroyed, below `log/` the transparency log, and below `places/`
how far the eraser has read the ledgers."""


def allows(rules: Iterable[Rule], role: str, action: Action, name: str = "") -> bool:
    """Return whether the role may do this to an object, or without a name to the bucket."""
    return any(
        rule.role == role and action in rule.actions and name.startswith(rule.prefix)
        for rule in rules
    )


def rules_of(rules: Iterable[Rule], role: str) -> tuple[Rule, ...]:
    """Return what is granted to a role."""
    return tuple(rule for rule in rules if rule.role == role)
