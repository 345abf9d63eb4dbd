"""Open the transparency log: the stage that writes it, its auditor, and the receipts in it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import Event

from erasestream.pipeline.bootstrap.consent import consent_reader
from erasestream.pipeline.bootstrap.storage import open_images, open_vault, storage_of
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.settings_sections import ReceiptSettings
from erasestream.pipeline.stages.receipts.issuer import ReceiptIssuer
from erasestream.pipeline.stages.receipts.leaves import Attested, LeafBuilder
from erasestream.pipeline.stages.receipts.publisher import ReceiptPublisher, ReceiptQueue
from erasestream.pipeline.stages.receipts.stage import ReceiptStage
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.ledger import ReceiptIssued
from erasestream.schemas.events.receipts import Receipts
from erasestream.schemas.ids import Lane
from erasestream.sinks.buckets.folder_store import FolderStore
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.log.cosigner import AbsenceCheck, Cosigner
from erasestream.sinks.log.key_files import public_key
from erasestream.sinks.log.log_reader import LogReader
from erasestream.sinks.log.log_writer import LogWriter
from erasestream.sinks.log.signed_note import KEY_BYTES, PublicKey, SigningKey
from erasestream.sinks.secret_file import read_secret
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.roles import AUDITOR, ERASER, Role
from erasestream.topics.catalog.topic_names import LEDGER, erasures_of, ledger_of
from erasestream.topics.catalog.topic_names import receipts_of as published_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.reader import validated
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition, Record

WRITE_TIMEOUT_S = 20.0


@contextmanager
def receipt_stage(settings: Settings, stopping: Event) -> Iterator[ReceiptStage]:
    """Open the stage that writes receipts, as the eraser."""
    section = receipts_of(settings)
    log_key = public_key(section.log_key)
    key = signing_key(log_key, section.signing_key, "signing_key")
    connection = Connection(cluster=settings.cluster, role=ERASER)
    lanes = settings.catalog().lane_names
    topics = [LEDGER, *(name(lane) for name in (ledger_of, erasures_of) for lane in lanes)]
    with ExitStack() as opened:
        admin = opened.enter_context(Admin(connection))
        counts = admin.check_rights(dict.fromkeys(topics, (Operation.READ,)))
        builder = _builder(section, counts)
        store = opened.enter_context(open_log(settings, ERASER))
        reader = CompactedView(
            connection=connection, topics=counts, apply=lambda _: None, only=lambda _: False
        )
        opened.enter_context(closing(reader))
        publish = opened.enter_context(_publisher(settings, connection, admin, store))
        stage = ReceiptStage(
            reader=reader,
            partitions=[Partition(name, n) for name in topics for n in range(counts[name])],
            starts=lambda missing: OffsetQueries(admin).log_starts(list(missing)),
            builder=builder,
            writer=LogWriter(store=store, key=key),
            publish=publish,
            stopping=stopping,
        )
        yield opened.enter_context(closing(stage))


@contextmanager
def _publisher(
    settings: Settings, connection: Connection, admin: Admin, store: ObjectStore
) -> Iterator[Callable[[], None]]:
    """Open what hands receipts to the account pages of the lanes that have a gateway."""
    section = receipts_of(settings)
    lanes = [spec.name for spec in settings.catalog().lanes if spec.gateway]
    if not lanes:
        yield lambda: None
        return
    rights = (Operation.READ, Operation.WRITE)
    receipts = admin.check_rights(dict.fromkeys(map(published_of, lanes), rights))
    entries = [name(lane) for name in (ledger_of, erasures_of) for lane in lanes]
    counts = admin.check_rights(dict.fromkeys(entries, (Operation.READ,)))
    queue = ReceiptQueue(_builder(section, counts), receipts)
    writer = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)
    with closing(writer), ExitStack() as opened:
        views = [
            opened.enter_context(
                closing(CompactedView(connection=connection, topics=topics, apply=apply))
            )
            for topics, apply in (
                (receipts, queue.apply_published),
                (counts, queue.apply_entry),
            )
        ]

        def write(event: ReceiptIssued) -> None:
            at = place(published_of(event.lane), event.account, receipts)
            writer.write(*at, to_wire(event, source="/attest"))

        publisher = ReceiptPublisher(
            queue=queue,
            published=views[0],
            entries=views[1],
            partitions=[
                Partition(name, n) for name, count in receipts.items() for n in range(count)
            ],
            issuer=lambda: _issuer(section, store),
            write=write,
        )
        yield publisher.run_once


def _issuer(section: ReceiptSettings, store: ObjectStore) -> ReceiptIssuer:
    log = public_key(section.log_key)
    return ReceiptIssuer(
        reader=LogReader(store, log),
        log=log,
        cosigner=public_key(section.auditor_key),
        receipts=_receipts(section),
    )


@contextmanager
def open_log(settings: Settings, role: Role) -> Iterator[ObjectStore]:
    """Open the bucket or the folder that has the log."""
    folder = receipts_of(settings).folder
    if folder is not None:
        yield FolderStore(folder)
    else:
        with open_vault(storage_of(settings), role) as store:
            yield store


def receipts_of(settings: Settings) -> ReceiptSettings:
    """Return the section `receipts`.  Raises `Refused` if the settings have none."""
    if settings.receipts is None:
        raise Refused("settings: the section receipts is missing")
    return settings.receipts


def signing_key(public: PublicKey, file: Path | None, name: str) -> SigningKey:
    """Return the private key of a public one.  Raises `Refused` if the file has another."""
    key = SigningKey(public.name, public.kind, _secret(file, name))
    if key.public != public:
        raise Refused(f"settings: receipts.{name} is not the key of {public.name}")
    return key


def _secret(file: Path | None, name: str) -> bytes:
    if file is None:
        raise Refused(f"settings: receipts.{name} is missing")
    return read_secret(file, size=KEY_BYTES)


@contextmanager
def log_reader(settings: Settings) -> Iterator[LogReader]:
    """Open the log to read it, as the auditor."""
    with open_log(settings, AUDITOR) as store:
        yield LogReader(store, public_key(receipts_of(settings).log_key))


@contextmanager
def cosigner(settings: Settings) -> Iterator[Cosigner]:
    """Open the auditor of the log, and the buckets in whose names it looks."""
    section, storage = receipts_of(settings), storage_of(settings)
    public = public_key(section.auditor_key)
    key = signing_key(public, section.auditor_signing_key, "auditor_signing_key")
    with ExitStack() as opened:
        vault = opened.enter_context(open_vault(storage, AUDITOR))
        images = opened.enter_context(open_images(storage, AUDITOR))
        yield Cosigner(
            store=FolderStore(section.folder) if section.folder else vault,
            log=public_key(section.log_key),
            key=key,
            look=AbsenceCheck(vault=vault, images=images),
        )


@contextmanager
def receipt_issuer(settings: Settings) -> Iterator[ReceiptIssuer]:
    """Open what issues receipts."""
    with open_log(settings, AUDITOR) as store:
        yield _issuer(receipts_of(settings), store)


def attested_about(settings: Settings, lane: Lane, account: str) -> list[Attested]:
    """Return what receipts there are, or will be, about an account, by its entries in the ledger.

    Reads the ledger as an operator.
    """
    records = list[Record]()
    with consent_reader(settings, lane) as reader:
        for topic in (ledger_of(lane), erasures_of(lane)):
            reader.read(reader.place(topic, validated(account)), apply=records.append)
        builder = _builder(receipts_of(settings), reader.partitions)
    built = [each for each in map(builder.build, records) if each is not None]
    # Of entries that repeat one, the first is the one that counts.
    return list({each.leaf.id: each for each in reversed(built)}.values())[::-1]


def _builder(section: ReceiptSettings, partitions: Mapping[str, int]) -> LeafBuilder:
    return LeafBuilder(
        receipts=_receipts(section), partitions=partitions, software=version("erasestream")
    )


def _receipts(section: ReceiptSettings) -> Receipts:
    return Receipts(_secret(section.secret, "secret"))
