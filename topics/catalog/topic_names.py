"""What the topics are called, and how large a record in them can be."""

from erasestream.schemas.codec.cloudevents import MAX_HEADER_BYTES
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane

RETAINED = "retained"
LEDGER = "ledger"
ERASURES = "erasures"
"""What the eraser alone says: everyone can write to the ledger, nobody else to this."""

RECORD_OVERHEAD_BYTES = MAX_HEADER_BYTES + 1024
"""Headers, key and framing of a record batch with one record, beside its value."""
MAX_UPLOAD_RECORD_BYTES = MAX_UPLOAD_BYTES + RECORD_OVERHEAD_BYTES
"""Largest record in `uploads.L`."""
MAX_RECORD_BYTES = MAX_CUTOUT_BYTES + RECORD_OVERHEAD_BYTES
"""Largest record in any topic: a cut-out."""


def uploads_of(lane: Lane) -> str:
    """Images on their way in."""
    return f"uploads.{lane}"


def cutouts_of(lane: Lane) -> str:
    """Results on their way to the router; partition n holds those of partition n of uploads."""
    return f"cutouts.{lane}"


def ephemeral_of(lane: Lane) -> str:
    """Results that customers fetch."""
    return f"ephemeral.{lane}"


def consent_of(lane: Lane) -> str:
    """The last decision of every account."""
    return f"consent.{lane}"


def lane_of(topic: str) -> Lane:
    """The lane that a topic belongs to: the topic proves the lane."""
    return Lane(topic.partition(".")[2])
