"""Roles: one per stage, and three per lane.

A role is the common name of a certificate; its rights are derived from the catalog (`acl.py`).
"""

from enum import StrEnum
from typing import NewType

from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import LANE_RULE, Lane, is_lane

Role = NewType("Role", str)

INFERENCE = Role("inference")
ROUTER = Role("router")
SINK = Role("sink")
PURGER = Role("purger")
READER = Role("reader")
ERASER = Role("eraser")
AUDITOR = Role("auditor")
OPERATOR = Role("operator")
ADMIN = Role("admin")
KEYS = Role("keys")
ROTATOR = Role("rotator")
STAGE_ROLES = (
    INFERENCE,
    ROUTER,
    SINK,
    PURGER,
    READER,
    ERASER,
    AUDITOR,
    OPERATOR,
    ADMIN,
    KEYS,
    ROTATOR,
)


class LaneRole(StrEnum):
    """Role of a lane's services; its full name is `<lane>.<value>`."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    ACCOUNT = "account"
    """Writes the owners' consent decisions, and reads their history."""


def is_role_name(name: str) -> bool:
    """Return whether this is the name of a stage's role, or of a role of any lane."""
    lane, _, role = name.rpartition(".")
    return (is_lane(lane) and role in set(LaneRole)) or name in STAGE_ROLES


def lane_role(lane: Lane, role: LaneRole) -> Role:
    """Return the full role of this lane's services, as in their certificates.

    Raises `Refused` (misconfigured) if this cannot be the name of a lane.
    """
    if not is_lane(lane):
        raise Refused(LANE_RULE)
    return Role(f"{lane}.{role}")
