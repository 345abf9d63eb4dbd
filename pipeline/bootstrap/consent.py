"""Open the owners' decisions: a view for stages, a reader and a writer for the command line."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from erasestream.pipeline.settings import Settings
from erasestream.schemas.errors import Refused
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import OPERATOR, LaneRole, Role, lane_role
from erasestream.topics.catalog.topic_names import consent_of, revocations_of
from erasestream.topics.consent.erasure_requests import ErasureRequests
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.consent.view import ConsentView, ReportFinding, ignore_finding
from erasestream.topics.consent.writer import ConsentWriter
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection

LOAD_SILENCE_S = 30.0
"""Longest wait without progress, before lanes that are not loaded are left behind."""


@contextmanager
def consent_view(
    connection: Connection, catalog: Catalog, *, report: ReportFinding = ignore_finding
) -> Iterator[ConsentView]:
    """Open the consent view, loaded up to the present end of the consent topics.

    A lane whose brokers do not answer is left behind: its users wait for it, and for no other.

    Raises `Refused` if a consent topic has another number of partitions than declared: the
    decisions in the others would not be seen, and one of them could be a revocation.
    """
    topics = [name(lane) for name in (consent_of, revocations_of) for lane in catalog.lane_names]
    with Admin(connection) as admin:
        counts = admin.check_rights(dict.fromkeys(topics, (Operation.READ,)))
    for name, count in counts.items():
        if count != catalog[name].partitions:
            raise Refused(f"{name} has {count} partitions, declared {catalog[name].partitions}")
    lanes = catalog.lane_names
    view = ConsentView(connection=connection, catalog=catalog, lanes=lanes, report=report)
    with closing(view):
        view.load(silence_s=LOAD_SILENCE_S)
        yield view


@contextmanager
def consent_writer(
    settings: Settings, lane: Lane, *, role: Role = OPERATOR
) -> Iterator[ConsentWriter]:
    """Open a writer of decisions about a lane's accounts, by default as an operator."""
    settings.catalog().lane(lane)
    writer = ConsentWriter(connection=Connection(cluster=settings.cluster, role=role), lane=lane)
    with closing(writer):
        yield writer


@contextmanager
def consent_reader(
    settings: Settings, lane: Lane, *, role: Role = OPERATOR
) -> Iterator[ConsentReader]:
    """Open a reader of decisions about a lane's accounts, by default as an operator."""
    settings.catalog().lane(lane)
    connection = Connection(cluster=settings.cluster, role=role)
    with closing(ConsentReader(connection=connection, lane=lane)) as reader:
        yield reader


@contextmanager
def erasure_requests(settings: Settings, lane: Lane) -> Iterator[ErasureRequests]:
    """Open a writer of owners' requests to erase single uploads, as the lane's account service."""
    settings.catalog().lane(lane)
    role = lane_role(lane, LaneRole.ACCOUNT)
    connection = Connection(cluster=settings.cluster, role=role)
    with closing(ErasureRequests(connection=connection, lane=lane)) as requests:
        yield requests
