"""Names of the topics, and their largest records."""

from erasestream.schemas.codec.cloudevents import MAX_HEADER_BYTES
from erasestream.schemas.events.images import MAX_CUTOUT_BYTES, MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane
from erasestream.schemas.sealing.content_type import SEALED_OVERHEAD_BYTES

RETAINED = "retained"
LEDGER = "ledger"
"""Entries about no account: repairs, findings about no lane, and destroyed keys."""
INSTALLATION = "installation"
"""The administrator's mark of the installation: development or production."""

RECORD_OVERHEAD_BYTES = MAX_HEADER_BYTES + SEALED_OVERHEAD_BYTES + 1024
"""Size of headers, key, seal and framing of a record batch with one record, besides its image."""
MAX_UPLOAD_RECORD_BYTES = MAX_UPLOAD_BYTES + RECORD_OVERHEAD_BYTES
"""Largest record in `uploads.L`."""
MAX_RECORD_BYTES = MAX_CUTOUT_BYTES + RECORD_OVERHEAD_BYTES
"""Largest record in any topic: a cut-out."""


def uploads_of(lane: Lane) -> str:
    """Return the topic of the lane's uploads."""
    return f"uploads.{lane}"


def cutouts_of(lane: Lane) -> str:
    """Return the topic of results before the router.

    Partition n holds the results of partition n of uploads.
    """
    return f"cutouts.{lane}"


def ephemeral_of(lane: Lane) -> str:
    """Return the topic of the results for customers."""
    return f"ephemeral.{lane}"


def consent_of(lane: Lane) -> str:
    """Return the topic with the last decision of every account."""
    return f"consent.{lane}"


def ledger_of(lane: Lane) -> str:
    """Return the topic with the history of the lane's accounts, and the findings about the lane."""
    return f"ledger.{lane}"


def erasures_of(lane: Lane) -> str:
    """Return the topic of the lane's confirmed erasures, where only the eraser can write."""
    return f"erasures.{lane}"


def revocations_of(lane: Lane) -> str:
    """Return the topic of operators' revocations, the only one that operators can write."""
    return f"revocations.{lane}"


def credentials_of(lane: Lane) -> str:
    """Return the topic of the API keys with which customers call the lane's gateway."""
    return f"credentials.{lane}"


def index_of(lane: Lane) -> str:
    """Return the topic that tells a gateway where each result of its lane is."""
    return f"index.{lane}"


def marks_of(lane: Lane) -> str:
    """Return the topic in which gateways tell each other of accepted and deleted images."""
    return f"marks.{lane}"


def held_of(lane: Lane) -> str:
    """Return the topic that counts what is retained, for the account page of the lane's gateway."""
    return f"held.{lane}"


def receipts_of(lane: Lane) -> str:
    """Return the topic with the receipts of the lane's accounts, for its gateway's account page."""
    return f"receipts.{lane}"


def lane_of(topic: str) -> Lane:
    """Return the lane of a topic: the topic's name proves the lane."""
    return Lane(topic.partition(".")[2])
