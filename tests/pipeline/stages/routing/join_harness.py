"""What is true in a world in memory: logs, clocks, decisions, commits.

What Kafka does is imitated; what the pipeline makes of it is the production code, in
`join_members.py`.  What may be made of consent is judged by true time, which no member sees.
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
CATALOG = Catalog.build((LaneSpec(name=LANE, partitions=2),), shared_partitions=2)
CONSENTS = tuple(Partition(consent_of(LANE), n) for n in range(2))
PARTITIONS = tuple(Partition(cutouts_of(LANE), n) for n in range(2))
ACCOUNTS = tuple(AccountId(name) for name in ("ann", "bob", "eve"))
SKEW_MS = 1000
"""How far each broker's clock may be off; two of them are apart by twice that at most."""
GRANT_WINDOW_MS = 5000
EPOCH_MS = 1_750_000_000_000


class Place(NamedTuple):
    """An upload, for ever: also after its topic was made anew."""

    topic_id: str
    partition: int
    offset: int


class Said(NamedTuple):
    """A decision as it truly happened."""

    account: AccountId
    at_ms: int
    grant: GrantId | None
    """None for a revocation, and for a grant that came too late to count."""


@dataclass
class Brokers:
    """What is true, and what everybody else only reads."""

    now_ms: int = EPOCH_MS
    incarnation: int = 0
    skew_ms: dict[str, int] = field(default_factory=lambda: {"uploads": 0, "consent": 0})
    uploads: list[list[Record]] = field(default_factory=lambda: [[], []])
    uploads_start: list[int] = field(default_factory=lambda: [0, 0])
    cutouts: list[list[Record]] = field(default_factory=lambda: [[], []])
    cutouts_start: list[int] = field(default_factory=lambda: [0, 0])
    consent: list[list[Record]] = field(default_factory=lambda: [[], []])
    said: list[Said] = field(default_factory=list)
    made_ms: dict[UploadId, int] = field(default_factory=dict)
    commits: dict[Partition, StartOffset] = field(default_factory=dict)
    generation: int = 0
    members: dict[str, object] = field(default_factory=dict)
    """Per name of a member the process that the brokers know by it."""
    ephemeral: list[Place] = field(default_factory=list)
    retained: Counter[UploadId] = field(default_factory=Counter)
    purged: set[Place] = field(default_factory=set)
    """What the findings say was purged unprocessed, or unrouted."""
    serial: int = 0

    def __post_init__(self) -> None:
        first = str(ReplayMark(topic_id=self.topic_id, offset=-1))
        self.commits = {at: StartOffset(0, first) for at in PARTITIONS}

    @property
    def topic_id(self) -> str:
        """The id that the topic of uploads has now."""
        return f"topic-{self.incarnation:016d}"

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """As `OffsetQueries` answers."""
        return dict.fromkeys(names, self.topic_id)

    def log_start(self, at: Partition) -> int:
        """As `OffsetQueries` answers."""
        return self.uploads_start[at.number]

    def first_after(self, at: Partition, moment_ms: int) -> int:
        """As `OffsetQueries` answers."""
        log = self.uploads[at.number]
        after = (n for n, r in enumerate(log) if r.appended_ms > moment_ms)
        return max(next(after, len(log)), self.uploads_start[at.number])

    def log_end(self, at: Partition) -> int:
        """As `OffsetQueries` answers for the ephemeral topic."""
        return sum(place.partition == at.number for place in self.ephemeral)

    def read(self, at: Partition, offset: int) -> Record | None:
        """As `Originals` answers: what lies there now, whoever's it is."""
        there = self.uploads_start[at.number] <= offset < len(self.uploads[at.number])
        return self.uploads[at.number][offset] if there else None

    def time(self, clock: str = "") -> datetime:
        """What a clock shows; without a name, the true time."""
        return utc(self.now_ms + self.skew_ms.get(clock, 0))

    def event_id(self) -> UploadId:
        """A new one."""
        self.serial += 1
        return new_upload_id(self.now_ms, self.serial.to_bytes(10, "big"))

    def record(self, at: Partition, offset: int, key: bytes | None, event: Event) -> Record:
        """An event in its place, stamped by the clock of its broker."""
        wire = to_wire(event, source="/world")
        stamp = self.time(at.topic.partition(".")[0])
        ms = round(stamp.timestamp() * 1000)
        return Record(at, offset, ms, key, wire.headers, wire.value)

    def upload(self, account: AccountId, number: int) -> None:
        """Somebody uploads a picture."""
        log = self.uploads[number]
        event = Upload(
            id=self.event_id(),
            time=self.time(),
            account=account,
            content_type="image/png",
            data=b"photo",
        )
        self.made_ms[event.id] = self.now_ms
        log.append(self.record(Partition(uploads_of(LANE), number), len(log), None, event))

    def decide(self, account: AccountId, made: Decision, *, late_ms: int) -> None:
        """An owner decides; the record reaches the broker `late_ms` later."""
        event = ConsentDecision(
            id=self.event_id(),
            time=self.time() - timedelta(milliseconds=late_ms),
            account=account,
            decision=made,
            actor="owner",
            channel=Channel.LIBRARY,
        )
        at = CONSENTS[partition_of(account.encode(), len(CONSENTS))]
        log = self.consent[at.number]
        record = self.record(at, len(log), account.encode(), event)
        log.append(record)
        delay_ms = late_ms + self.skew_ms["consent"]
        counts = made is Decision.GRANTED and abs(delay_ms) <= GRANT_WINDOW_MS
        self.said.append(Said(account, self.now_ms, event.grant(LANE) if counts else None))
