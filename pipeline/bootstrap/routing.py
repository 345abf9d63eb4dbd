"""Open the router: the consent join as a process."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from threading import Event
from typing import NamedTuple

from erasestream.pipeline.bootstrap.consent import consent_view
from erasestream.pipeline.runtime.kept import Kept
from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.routing import router
from erasestream.pipeline.stages.routing.router import Router
from erasestream.pipeline.stages.routing.stage import RouterStage
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic_names import (
    INSTALLATION,
    LEDGER,
    RETAINED,
    consent_of,
    cutouts_of,
    ephemeral_of,
    held_of,
    index_of,
    ledger_of,
    revocations_of,
    uploads_of,
)
from erasestream.topics.consent.ledger_findings import LedgerFindings
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.transaction.loop import TransactionalLoop

FINDING_TIMEOUT_S = 5.0
OPEN_ANSWER_S = 5.0
ORIGINAL_WAIT_S = 0.02
"""Longest wait for an original while other partitions wait: most have been read ahead, and an
undeliverable batch or an absent leader must delay one partition only."""
"""Longest wait for an answer while a transaction is open: several fit into its timeout."""


class Decisions(NamedTuple):
    """The owners' decisions, and the findings about them."""

    view: ConsentView
    findings: LedgerFindings


@contextmanager
def router_decisions(settings: Settings) -> Iterator[Decisions]:
    """Load the decisions; the clients renew their certificates themselves."""
    catalog = settings.catalog()
    connection = Connection(cluster=settings.cluster, role=ROUTER)
    partitions = _check(connection, catalog, answer_timeout_s=settings.stage.answer_timeout_s)
    writer = AcknowledgedWriter(connection=connection, timeout_s=FINDING_TIMEOUT_S)
    with closing(writer):
        findings = LedgerFindings(writes=writer, partitions=partitions)
        with consent_view(connection, catalog, report=findings.report) as view:
            yield Decisions(view, findings)


@contextmanager
def router_stage(
    settings: Settings, stopping: Event, *, decisions: Kept[Decisions] | None = None
) -> Iterator[RouterStage]:
    """Open the router, a member of its group, with its own decisions unless some are given."""
    catalog = settings.catalog()
    connection = Connection(cluster=settings.cluster, role=ROUTER)
    with ExitStack() as opened:
        decisions = decisions or opened.enter_context(
            closing(Kept(partial(router_decisions, settings)))
        )
        view, findings = decisions.get()
        quarantine = QuarantineRegistry(findings.report_quarantined)
        fetcher = RecordFetcher(connection=connection, max_wait_s=ORIGINAL_WAIT_S)
        originals = opened.enter_context(closing(fetcher))
        admin = opened.enter_context(Admin(connection, timeout_s=OPEN_ANSWER_S))
        loop = TransactionalLoop(
            connection=connection,
            topics=router.topics_of(catalog),
            instance=settings.stage.instance,
            handler=Router(
                catalog=catalog,
                view=view,
                originals=originals,
                offsets=OffsetQueries(admin),
            ),
            stopping=stopping,
            listener=quarantine,
            has_follow_ups=bool(_indexed(catalog)),
        )
        opened.enter_context(closing(loop))
        stage = RouterStage(loop=loop, findings=findings, quarantine=quarantine)
        opened.enter_context(closing(stage))
        loop.start()
        yield stage


def _indexed(catalog: Catalog) -> list[Lane]:
    """Return the lanes whose results are indexed for a gateway."""
    return [spec.name for spec in catalog.lanes if spec.gateway]


def _check(connection: Connection, catalog: Catalog, *, answer_timeout_s: float) -> dict[str, int]:
    """Return how many partitions each topic has that the router may read or write."""
    read, write, lanes = (Operation.READ,), (Operation.WRITE,), catalog.lane_names
    with Admin(connection, timeout_s=answer_timeout_s) as admin:
        partitions = admin.check_rights(
            {cutouts_of(lane): read for lane in lanes}
            | {uploads_of(lane): read for lane in lanes}
            | {consent_of(lane): read for lane in lanes}
            | {revocations_of(lane): read for lane in lanes}
            | {ephemeral_of(lane): write for lane in lanes}
            | {index_of(lane): write for lane in _indexed(catalog)}
            | {ledger_of(lane): write for lane in lanes}
            | {held_of(spec.name): write for spec in catalog.lanes if spec.gateway}
            | {LEDGER: write, RETAINED: write, INSTALLATION: read}
        )
    GroupOffsets(connection, timeout_s=answer_timeout_s).check(
        ROUTER, Partition(cutouts_of(lanes[0]), 0)
    )
    return partitions
