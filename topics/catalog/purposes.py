"""Purposes of the epochs' keys: who may seal for each, and who alone may open.

Derived from the lanes, as the access rights are (`acl.py`).  A role that seals gets public keys
only; private keys are given to one role for each purpose.
"""

from typing import NamedTuple

from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import INFERENCE, SINK, LaneRole, Role, lane_role

KEPT = "sink"
"""Opens what may be kept."""


class Purpose(NamedTuple):
    """One purpose, of which every epoch has a key pair of its own."""

    name: str
    opener: Role
    sealers: frozenset[Role]


def uploads_for(lane: Lane) -> str:
    """Return the purpose that opens the uploads to a lane."""
    return f"inference.{lane}"


def results_of(lane: Lane) -> str:
    """Return the purpose that opens the results of a lane."""
    return f"results.{lane}"


def purposes(lanes: tuple[Lane, ...]) -> dict[str, Purpose]:
    """Return all purposes by their names."""
    workers = frozenset((INFERENCE,))
    table = [Purpose(KEPT, SINK, workers)]
    for lane in lanes:
        producer, consumer = lane_role(lane, LaneRole.PRODUCER), lane_role(lane, LaneRole.CONSUMER)
        table.append(Purpose(uploads_for(lane), INFERENCE, frozenset((producer,))))
        table.append(Purpose(results_of(lane), consumer, workers))
    return {purpose.name: purpose for purpose in table}
