"""Follow the ledger and the log of one lane during a storm: every record and every leaf once."""

from contextlib import ExitStack
from importlib.metadata import version

from erasestream.pipeline.bootstrap.receipts import log_reader, receipts_of
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.receipts.leaves import Attested, LeafBuilder
from erasestream.schemas.codec.cloudevents import one_from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.ledger import UploadErasureRequested
from erasestream.schemas.events.receipts import ErasureLeaf, Receipts, UploadErasureLeaf
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.sinks.log.checkpoint import Checkpoint
from erasestream.sinks.log.log_reader import new_leaves, verify_growth
from erasestream.sinks.log.receipt_ids import id_of
from erasestream.topics.catalog.roles import OPERATOR
from erasestream.topics.catalog.topic_names import erasures_of, ledger_of
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.compacted_view import CompactedView
from erasestream.topics.kafka.records import Record
from tests.faults.erasure_evidence import Account

READ_S = 60.0


class FollowedLedger:
    """Leaves of the entries of `ledger.L` and `erasures.L`, as far as these were read."""

    def __init__(self, settings: Settings, lane: Lane) -> None:
        names = (ledger_of(lane), erasures_of(lane))
        partitions = {name: settings.catalog()[name].partitions for name in names}
        secret = receipts_of(settings).secret
        assert secret
        self._builder = LeafBuilder(
            receipts=Receipts(secret.read_bytes()),
            partitions=partitions,
            software=version("erasestream"),
        )
        self.attested: dict[AccountId, dict[str, Attested]] = {}
        """By account, and by the id of the receipt."""
        self.requests: dict[str, UploadId] = {}
        """Requests to erase uploads."""
        self.erased: set[GrantId] = set()
        """Grants whose erasure has ended."""
        self.erasures: set[str] = set()
        """Receipts of all erasures that have ended."""
        self._done: set[str] = set()
        """Requests that are done."""
        connection = Connection(cluster=settings.cluster, role=OPERATOR)
        self._view = CompactedView(connection=connection, topics=partitions, apply=self._apply)

    def read(self) -> None:
        """Read what has arrived."""
        self._view.advance()

    def read_to_end(self) -> None:
        """Read all that was acknowledged before this call."""
        self._view.catch_up(self._view.mark(), deadline_s=READ_S)

    def has_ended(self, account: Account) -> bool:
        """Return whether the erasure of all that an owner ended has ended."""
        uploads = {self.requests.get(each) for each in self._done}
        return self.erased.issuperset(account.ended) and uploads >= account.requested

    def close(self) -> None:
        """Disconnect."""
        self._view.close()

    def _apply(self, record: Record) -> None:
        try:
            asked = one_from_wire((UploadErasureRequested,), record.headers, record.value)
            self.requests[asked.id] = asked.upload
        except InvalidEvent:
            pass
        attested = self._builder.build(record)
        if attested is None or attested.subject is None:
            return
        # Of entries that repeat one, the first is the one that counts.
        self.attested.setdefault(attested.subject.account, {}).setdefault(
            attested.leaf.id, attested
        )
        match attested.leaf:
            case ErasureLeaf() as leaf:
                self.erased.add(leaf.grant)
                self.erasures.add(leaf.id)
            case UploadErasureLeaf() as leaf:
                self._done.add(attested.subject.about)  # the request may be read later
                self.erasures.add(leaf.id)


class FollowedLog:
    """The leaves of the log, each verified; a log that did anything but grow is refused."""

    def __init__(self, settings: Settings) -> None:
        with ExitStack() as opened:
            self._reader = opened.enter_context(log_reader(settings))
            self._opened = opened.pop_all()
        self._checkpoint: Checkpoint | None = None
        self.leaves: list[bytes] = []
        self.ids: set[str] = set()

    def read(self) -> None:
        """Read what was appended.  Raises `ProofRefused`."""
        newest = self._reader.newest()
        if newest is None or newest.checkpoint == self._checkpoint:
            return
        if self._checkpoint is not None:
            verify_growth(self._checkpoint, newest)
        added = list(new_leaves(self._checkpoint, newest))
        self.leaves += added
        self.ids.update(map(id_of, added))
        self._checkpoint = newest.checkpoint

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()
