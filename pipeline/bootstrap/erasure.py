"""Open the eraser as a process."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from threading import Event

from erasestream.pipeline.bootstrap.storage import open_images, open_vault, storage_of
from erasestream.pipeline.runtime.retry import OutageLog
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.erasure.deletions import Deletions
from erasestream.pipeline.stages.erasure.grant_entries import GrantEntries, OwnedEntries
from erasestream.pipeline.stages.erasure.grant_eraser import GrantEraser
from erasestream.pipeline.stages.erasure.missing_entries import MissingEntries
from erasestream.pipeline.stages.erasure.progress_reports import ProgressReports
from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.pipeline.stages.erasure.topic_copies import TopicCopies
from erasestream.pipeline.stages.erasure.unrecoverable_grants import UnrecoverableGrants
from erasestream.pipeline.stages.erasure.upload_eraser import UploadEraser
from erasestream.pipeline.stages.erasure.vault_pages import VaultPages, account_codes
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.sinks.buckets.gcs import PUT_ENDS_S
from erasestream.sinks.images.deletion import GrantDeletion
from erasestream.sinks.images.object_names import NAME_KEY_BYTES, ObjectNamer
from erasestream.sinks.images.upload_deletion import KeptUpload, UploadDeletion
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S, destroyed_masters, mark_erased
from erasestream.sinks.secret_file import read_secret
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.roles import ERASER
from erasestream.topics.catalog.topic_names import (
    LEDGER,
    consent_of,
    erasures_of,
    ledger_of,
    revocations_of,
)
from erasestream.topics.consent.compaction_heartbeat import CompactionHeartbeat
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView, each
from erasestream.topics.kafka.consumer.work_queue import WorkQueue
from erasestream.topics.kafka.group_offsets import GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition

LEDGER_TIMEOUT_S = 20.0
BEAT_TIMEOUT_S = 5.0
READ_S = 2.0
"""Longest wait of one turn for `ledger`."""


@contextmanager
def eraser_stage(settings: Settings, stopping: Event) -> Iterator[EraserStage]:
    """Open the eraser, a member of its group."""
    catalog, storage = settings.catalog(), storage_of(settings)
    connection = Connection(cluster=settings.cluster, role=ERASER)
    lanes = catalog.lane_names
    topics = [name(lane) for name in (consent_of, revocations_of, ledger_of) for lane in lanes]
    partitions = _check(connection, lanes)
    consent = {name: partitions[name] for name in map(consent_of, lanes)}
    ledger = {
        topic_of(lane): partitions[topic_of(lane)]
        for topic_of in (ledger_of, erasures_of)
        for lane in lanes
    }
    with ExitStack() as opened:
        vault = opened.enter_context(open_vault(storage, ERASER))
        images = opened.enter_context(open_images(storage, ERASER))
        name_key = read_secret(storage.name_key, size=NAME_KEY_BYTES)
        namer = ObjectNamer(name_key)
        writer = AcknowledgedWriter(connection=connection, timeout_s=LEDGER_TIMEOUT_S)
        opened.enter_context(closing(writer))
        beats = AcknowledgedWriter(connection=connection, timeout_s=BEAT_TIMEOUT_S)
        opened.enter_context(closing(beats))
        outage = OutageLog()
        eraser = GrantEraser(
            writes=writer,
            partitions=ledger,
            mark=lambda grant: mark_erased(vault, grant),
            stopping=stopping,
            outage=outage,
        )
        opened.enter_context(closing(eraser))
        entries = partial(GrantEntries, writes=writer, partitions=ledger, outage=outage)
        settle_s = CACHE_LIMIT_S + PUT_ENDS_S
        deletion = GrantDeletion(vault=vault, images=images, stopping=stopping)
        opened.enter_context(closing(deletion))
        deletions = Deletions(
            deletion=deletion,
            owner_of=namer.owner,
            entries=entries(),
            reports=ProgressReports(entries=entries()),
            settle_s=settle_s,
            outage=outage,
        )
        opened.enter_context(closing(deletions))
        uploads = UploadEraser(
            deletion=UploadDeletion(vault=vault, images=images, stopping=stopping),
            kept_as=partial(_kept_as, namer),
            entries=OwnedEntries(writes=writer, partitions=ledger, outage=outage),
            partitions=ledger,
            settle_s=settle_s,
            outage=outage,
        )
        opened.enter_context(closing(uploads))
        with Admin(connection) as admin:
            topic_ids = OffsetQueries(admin).topic_ids(ledger)
        pages = VaultPages(vault=vault, topic_ids=topic_ids, stopping=stopping)
        opened.enter_context(closing(pages))
        view = LedgerView(
            connection=connection,
            partitions=ledger,
            pages=pages,
            key_of=account_codes(name_key),
        )
        opened.enter_context(closing(view))
        copies = _topic_copies(settings)
        queue = WorkQueue(connection=connection, topics=topics, instance=settings.stage.instance)
        opened.enter_context(closing(queue))
        stage = EraserStage(
            queue=queue,
            ledger=view,
            eraser=eraser,
            missing=MissingEntries(writes=writer, complete_to=view.complete_to, outage=outage),
            deletions=deletions,
            unrecoverable=UnrecoverableGrants(
                destroyed=partial(destroyed_masters, vault),
                copies=copies,
                read_ledger=opened.enter_context(_ledger_reads(connection, partitions, copies)),
                entries=entries(),
                outage=outage,
            ),
            uploads=uploads,
            outage=outage,
            beat=CompactionHeartbeat(writes=beats, partitions=consent).beat,
            beat_every_s=catalog.policy.heartbeat_s,
        )
        yield opened.enter_context(closing(stage))


def _kept_as(namer: ObjectNamer, lane: Lane, account: AccountId, upload: UploadId) -> KeptUpload:
    return KeptUpload(namer.owner(lane, account), namer.upload_id(lane, account, upload))


def _topic_copies(settings: Settings) -> TopicCopies:
    """Return what knows the ends of epochs' keys; without a section `keys`, nothing."""
    if settings.keys is None:
        return TopicCopies(EpochTimes(), ())
    lanes = settings.catalog().lanes
    sealed = {spec.name for spec in lanes if spec.sealing is Sealing.REQUIRED}
    return TopicCopies(settings.epochs(), sealed)


@contextmanager
def _ledger_reads(
    connection: Connection, partitions: Mapping[str, int], copies: TopicCopies
) -> Iterator[Callable[[], bool]]:
    """Open what reads `ledger` up to its end; it asks brokers once it is called, and not before."""
    whole = [Partition(LEDGER, n) for n in range(partitions[LEDGER])]
    view = CompactedView(connection=connection, topics={}, apply=copies.apply, only=lambda _: False)

    def read() -> bool:
        if not view.applied:
            view.assign(whole, each(copies.apply))
        return view.catch_up_reachable(whole, deadline_s=READ_S) == set(whole)

    with closing(view):
        yield read


def _check(connection: Connection, lanes: Iterable[Lane]) -> dict[str, int]:
    """Return how many partitions the lanes' decisions, ledgers and confirmed erasures have."""
    both = (Operation.READ, Operation.WRITE)
    topics = [name(lane) for name in (consent_of, ledger_of, erasures_of) for lane in lanes]
    rights: dict[str, tuple[Operation, ...]] = dict.fromkeys(topics, both)
    rights |= dict.fromkeys([LEDGER, *map(revocations_of, lanes)], (Operation.READ,))
    with Admin(connection) as admin:
        partitions = admin.check_rights(rights)
    GroupOffsets(connection).check(ERASER, Partition(topics[0], 0))
    return partitions
