"""Brokers in memory: logs, clocks, decisions and commits.

Kafka is imitated; the pipeline's part is production code, in `join_members.py`.  Which results
may be retained is checked against true time, which no member sees.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.events.base import Event, utc
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.images import Upload
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId, new_upload_id
from erasestream.topics.catalog.catalog import Catalog, LaneSpec
from erasestream.topics.catalog.topic_names import consent_of, cutouts_of, uploads_of
from erasestream.topics.kafka.partitioner import partition_of
from erasestream.topics.kafka.records import Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset

LANE = Lane("shop")
CATALOG = Catalog.build(
    (LaneSpec(name=LANE, partitions=2),),
    consent_partitions=2,
    history_partitions=2,
    retained_partitions=2,
)
CONSENT_PARTITIONS = tuple(Partition(consent_of(LANE), n) for n in range(2))
PARTITIONS = tuple(Partition(cutouts_of(LANE), n) for n in range(2))
ACCOUNTS = tuple(AccountId(name) for name in ("ann", "bob", "eve"))
SKEW_MS = 1000
"""How far each broker's clock may be off; two of them are apart by twice that at most."""
GRANT_WINDOW_MS = 5000
EPOCH_MS = 1_750_000_000_000


class Source(NamedTuple):
    """The position of an upload; with the topic id it is unique even after a recreation."""

    topic_id: str
    partition: int
    offset: int


class TrueDecision(NamedTuple):
    """A decision by true time."""

    account: AccountId
    at_ms: int
    grant: GrantId | None
    """None for a revocation, and for a grant that came too late to count."""


@dataclass
class FakeBrokers:
    """The true state, which members only read."""

    now_ms: int = EPOCH_MS
    incarnation: int = 0
    skew_ms: dict[str, int] = field(default_factory=lambda: {"uploads": 0, "consent": 0})
    uploads: list[list[Record]] = field(default_factory=lambda: [[], []])
    uploads_start: list[int] = field(default_factory=lambda: [0, 0])
    cutouts: list[list[Record]] = field(default_factory=lambda: [[], []])
    cutouts_start: list[int] = field(default_factory=lambda: [0, 0])
    consent: list[list[Record]] = field(default_factory=lambda: [[], []])
    decisions: list[TrueDecision] = field(default_factory=list)
    uploaded_ms: dict[UploadId, int] = field(default_factory=dict)
    commits: dict[Partition, StartOffset] = field(default_factory=dict)
    generation: int = 0
    members: dict[str, object] = field(default_factory=dict)
    """The current process of each member name; its predecessors are fenced."""
    ephemeral: list[Source] = field(default_factory=list)
    retained: Counter[UploadId] = field(default_factory=Counter)
    purged: set[Source] = field(default_factory=set)
    """Uploads that findings report as purged unprocessed, or unrouted."""
    serial: int = 0

    def __post_init__(self) -> None:
        first = str(ReplayMark(topic_id=self.topic_id, offset=-1))
        self.commits = {at: StartOffset(0, first) for at in PARTITIONS}

    @property
    def topic_id(self) -> str:
        """The current id of the uploads topic."""
        return f"topic-{self.incarnation:016d}"

    # As `OffsetQueries` and `RecordFetcher` answer

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(names, self.topic_id)

    def log_start(self, at: Partition) -> int:
        return self.uploads_start[at.number]

    def first_after(self, at: Partition, moment_ms: int) -> int:
        log = self.uploads[at.number]
        after = (n for n, r in enumerate(log) if r.appended_ms > moment_ms)
        return max(next(after, len(log)), self.uploads_start[at.number])

    def log_end(self, at: Partition) -> int:
        """Return the log end of an ephemeral partition."""
        return sum(source.partition == at.number for source in self.ephemeral)

    def read(self, at: Partition, offset: int) -> Record | None:
        is_there = self.uploads_start[at.number] <= offset < len(self.uploads[at.number])
        return self.uploads[at.number][offset] if is_there else None

    # Events

    def time(self, clock: str = "") -> datetime:
        """Return the time of a broker's clock; without a name, the true time."""
        return utc(self.now_ms + self.skew_ms.get(clock, 0))

    def new_event_id(self) -> UploadId:
        self.serial += 1
        return new_upload_id(self.now_ms, self.serial.to_bytes(10, "big"))

    def record(self, at: Partition, offset: int, key: bytes | None, event: Event) -> Record:
        """Return the record of an event, stamped by the clock of its broker."""
        wire = to_wire(event, source="/test")
        stamp = self.time(at.topic.partition(".")[0])
        ms = round(stamp.timestamp() * 1000)
        return Record(at, offset, ms, key, wire.headers, wire.value)

    def upload(self, account: AccountId, number: int) -> None:
        """Append an upload to a partition."""
        log = self.uploads[number]
        event = Upload(
            id=self.new_event_id(),
            time=self.time(),
            account=account,
            content_type="image/png",
            data=b"photo",
        )
        self.uploaded_ms[event.id] = self.now_ms
        log.append(self.record(Partition(uploads_of(LANE), number), len(log), None, event))

    def decide(self, account: AccountId, decision: Decision, *, late_ms: int) -> None:
        """Append an owner's decision that was made `late_ms` ago."""
        event = ConsentDecision(
            id=self.new_event_id(),
            time=self.time() - timedelta(milliseconds=late_ms),
            account=account,
            decision=decision,
            actor="owner",
            channel=Channel.LIBRARY,
        )
        at = CONSENT_PARTITIONS[partition_of(account.encode(), len(CONSENT_PARTITIONS))]
        log = self.consent[at.number]
        log.append(self.record(at, len(log), account.encode(), event))
        delay_ms = late_ms + self.skew_ms["consent"]
        counts = decision is Decision.GRANTED and abs(delay_ms) <= GRANT_WINDOW_MS
        grant = event.grant(LANE) if counts else None
        self.decisions.append(TrueDecision(account, self.now_ms, grant))
