"""Open the API keys of a lane: to read them, and to issue and revoke them."""

from collections.abc import Iterator
from contextlib import contextmanager

from erasestream.pipeline.settings import Settings
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.credentials.table import CredentialTable
from erasestream.topics.credentials.view import credential_view
from erasestream.topics.credentials.writer import CredentialWriter, credential_writer
from erasestream.topics.kafka.connection import Connection

LOAD_TIMEOUT_S = 15.0


def account_connection(settings: Settings, lane: Lane) -> Connection:
    """Return the connection with which a lane's keys are read and written: that of its owners.

    Raises `Refused` if the lane has no gateway.
    """
    if not settings.catalog().lane(lane).gateway:
        raise Refused(f"settings: lanes.{lane}.gateway is not true")
    return Connection(cluster=settings.cluster, role=lane_role(lane, LaneRole.ACCOUNT))


@contextmanager
def credential_table(settings: Settings, lane: Lane) -> Iterator[CredentialTable]:
    """Open the keys of a lane as of now.  Raises `Unavailable` if they cannot be read."""
    with credential_view(account_connection(settings, lane), lane) as view:
        view.load(timeout_s=LOAD_TIMEOUT_S)
        yield view.table


@contextmanager
def open_credential_writer(settings: Settings, lane: Lane) -> Iterator[CredentialWriter]:
    """Open the writer of a lane's keys."""
    with credential_writer(account_connection(settings, lane), lane) as writer:
        yield writer
