"""The consent join: where every result goes, exactly once, by the freshest consent.

Either ... or is about keeping: every result goes to the ephemeral topic of its lane, which
forgets it.  Whether upload and cut-out also go to the encryption sink is decided here.

For every result, in this order:

1. What was read waits until the consent view reaches the mark that was taken after reading
   (`barrier.py`).
2. Replays vanish (`deduplication.py`).
3. The rule of keeping decides (`routing_rule.py`).
4. What is retained is read again from its place; gone, or another's, it is ephemeral.

The three rules are pure; here is only what asks the brokers for them.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import assert_never

from erasestream.pipeline.stages.routing import deduplication, routing_rule
from erasestream.pipeline.stages.routing.deduplication import Novelty
from erasestream.pipeline.stages.routing.freshness_barrier import FreshnessBarrier, Verdict
from erasestream.pipeline.stages.routing.ports import BrokerQueries, FreshConsent, RecordSource
from erasestream.pipeline.stages.routing.routing_rule import Route
from erasestream.schemas.codec.cloudevents import from_wire, one_from_wire, to_wire
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.codec.result_headers import ResultHeaders, parse_result_headers
from erasestream.schemas.errors import SENTENCES, Code, InvalidInput, InvariantBroken, Unavailable
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW
from erasestream.schemas.events.images import (
    RESULTS,
    Cutout,
    Failure,
    Part,
    Result,
    Retained,
    Upload,
)
from erasestream.schemas.events.ledger import Finding, FindingKind
from erasestream.schemas.ids import Lane, upload_id_of_position
from erasestream.schemas.image_formats import sniff_content_type
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.topic_names import (
    LEDGER,
    RETAINED,
    cutouts_of,
    ephemeral_of,
    lane_of,
    uploads_of,
)
from erasestream.topics.consent.view import ActiveGrant
from erasestream.topics.kafka.consumer.compacted_view import Mark
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset

log = logging.getLogger(__name__)

MAX_SKEW_MS = round(MAX_CLOCK_SKEW.total_seconds() * 1000)
"""How far the clocks of two brokers may be apart."""
MARK_TIMEOUT_S = 2.0
"""How long an open transaction waits for the mark; after that it is committed first."""
WAIT_S = 1.0
"""How long one try to catch up takes before the stage looks whether it shall end."""


class Router:
    """Decides per result; run by a `TransactionalLoop`, which makes its decisions atomic."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        view: FreshConsent,
        originals: RecordSource,
        admin: BrokerQueries,
        stopping: threading.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._backlog = {
            spec.name: timedelta(seconds=spec.times.backlog_limit_s) for spec in catalog.lanes
        }
        self._view = view
        self._originals = originals
        self._admin = admin
        self._stopping = stopping
        self._now = now
        self._barrier: FreshnessBarrier[Partition] = FreshnessBarrier()
        self._mark: Mark | None = None
        self._marks: dict[Partition, ReplayMark] = {}
        self._after_loss: set[Partition] = set()
        """Partitions of which no record was read yet since unread ones were deleted."""
        self.counts: Counter[str] = Counter()
        """How many results took which way; names of ways only.

        Decisions, not deliveries: one that was undone and made again counts twice.
        """

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Take the marks that were committed with the positions."""
        self._marks = {
            at: ReplayMark.parse(start.metadata, where=str(at)) for at, start in starts.items()
        }
        self._after_loss = {at for at, start in starts.items() if start.after_loss}

    def initial_offset(self, at: Partition) -> StartOffset | None:
        """Where a partition without a committed offset begins; None if that can not be told.

        Every result that was ever routed left a record in the ephemeral topic.  If that has
        never held one, nothing was routed: the partition is new, or nobody got to it yet.
        """
        lane = lane_of(at.topic)
        if self._admin.log_end(Partition(ephemeral_of(lane), at.number)) > 0:
            return None
        mark = ReplayMark(topic_id=self._topic_id(lane), offset=-1)
        return StartOffset(self._admin.log_start(at), str(mark))

    def offset_metadata(self, at: Partition) -> str:
        """The mark of a partition as it is after what was handled."""
        return str(self._marks[at])

    def is_ready(self) -> bool:
        """Whether the view has applied every decision made before these were read."""
        try:
            self._mark = self._view.mark(timeout_s=MARK_TIMEOUT_S)
        except Unavailable:
            self._mark = None
            return False
        verdict = self._barrier.judge(mark=self._mark, applied=self._view.read())
        return verdict is Verdict.DECIDE

    def wait_until_ready(self) -> None:
        """Wait until it has, however long that takes; says so once.  No transaction is open."""
        said = False
        while True:
            try:
                if self._mark is None:
                    self._mark = self._view.mark()
                self._view.catch_up(self._mark, deadline_s=WAIT_S)
            except Unavailable as error:
                if self._stopping.is_set():
                    raise
                if not said:
                    log.warning("waiting_for_consent", extra={"code": error.code})
                    said = True
                self._stopping.wait(WAIT_S / 10)
            else:
                return

    def handle(self, record: Record) -> Iterable[Outgoing]:
        """The records that a result becomes: none for a replay, else one or three."""
        lane = lane_of(record.at.topic)
        head = _head(record)
        judgement = deduplication.judge(
            self._mark_before(record, lane),
            head.position,
            current_topic_id=lambda: self._topic_id(lane),
            log_start=lambda: self._log_start(lane, record.at.number),
        )
        self._marks[record.at] = judgement.mark
        self._after_loss.discard(record.at)
        if judgement.appearance is Novelty.REPLAY:
            self.counts["replayed"] += 1
            return
        if judgement.purged:
            self.counts["purged"] += judgement.purged
            kind = FindingKind.UPLOADS_PURGED_UNPROCESSED
            yield self._finding(kind, lane, head.position, f"{judgement.purged} uploads")
        if judgement.unrouted:
            self.counts["unrouted"] += judgement.unrouted
            kind = FindingKind.RESULTS_PURGED_UNROUTED
            yield self._finding(kind, lane, head.position, f"{judgement.unrouted} results")
        yield from self._route(lane, record, head)

    def _mark_before(self, record: Record, lane: Lane) -> ReplayMark:
        """The mark of a record's partition; of the first one after a loss, with what may miss."""
        mark = self._marks[record.at]
        if record.at not in self._after_loss:
            return mark
        surely_ms = record.appended_ms + MAX_SKEW_MS
        younger = self._admin.first_after(Partition(uploads_of(lane), record.at.number), surely_ms)
        return deduplication.after_loss(
            mark, current_topic_id=self._topic_id(lane), younger=younger
        )

    def _route(self, lane: Lane, record: Record, head: ResultHeaders) -> Iterable[Outgoing]:
        standing = self._view.active_grant(lane, head.account)
        now = self._now()
        way = routing_rule.route_of(
            head,
            granted_at=standing.appended_at if standing else None,
            now=now,
            backlog_limit=self._backlog[lane],
        )
        topic, number = ephemeral_of(lane), record.at.number
        match way:
            case Route.EXPIRED:
                self.counts["expired"] += 1
                wire = to_wire(_expired(_result(record), now), source=f"/lanes/{lane}/router")
                yield Outgoing(topic, number, None, wire.headers, wire.value)
            case Route.EPHEMERAL:
                self.counts["ephemeral"] += 1
                yield Outgoing(topic, number, None, record.headers, record.value)
            case Route.RETAINED:
                yield Outgoing(topic, number, None, record.headers, record.value)
                yield from self._retained(lane, _result(record), standing)
            case _:
                assert_never(way)

    def _retained(
        self, lane: Lane, result: Result, standing: ActiveGrant | None
    ) -> Iterable[Outgoing]:
        if not isinstance(result, Cutout) or standing is None:
            raise InvariantBroken("what was to be retained is no cut-out, or not granted")
        original = self._original(lane, result)
        if original is None:
            self.counts["ephemeral"] += 1
            self.counts["original_gone"] += 1
            place = result.position
            fields = {"partition": place.partition, "offset": place.offset}
            log.warning("original_gone", extra={"topic": uploads_of(lane), **fields})
            return
        self.counts["retained"] += 1
        yield self._keep(lane, result, standing, original, Part.ORIGINAL)
        yield self._keep(lane, result, standing, result, Part.CUTOUT)

    def _original(self, lane: Lane, cutout: Cutout) -> Upload | None:
        at = Partition(uploads_of(lane), cutout.position.partition)
        record = self._originals.read(at, cutout.position.offset)
        if record is None:
            return None
        try:
            upload = from_wire(Upload, record.headers, record.value)
        except InvalidInput:
            return None
        return upload if routing_rule.is_original(upload, cutout) else None

    def _keep(
        self, lane: Lane, cutout: Cutout, standing: ActiveGrant, of: Upload | Cutout, part: Part
    ) -> Outgoing:
        event = Retained.model_construct(
            id=cutout.id,
            time=self._now(),
            lane=lane,
            account=cutout.account,
            part=part,
            grant=standing.grant,
            mark=self._view.mark_of(lane, cutout.account),
            position=cutout.position,
            uploaded_at=cutout.uploaded_at,
            # What it is says the image: the header is what a stranger wrote.
            content_type=sniff_content_type(of.data) or "application/octet-stream",
            data=of.data,
        )
        wire = to_wire(event, source="/router")
        return Outgoing(RETAINED, -1, cutout.id.encode(), wire.headers, wire.value)

    def _finding(self, kind: FindingKind, lane: Lane, position: Position, what: str) -> Outgoing:
        event = Finding(
            id=upload_id_of_position(position.topic_id, position.partition, position.offset),
            time=self._now(),
            kind=kind,
            detail=f"{what} before {uploads_of(lane)} {position}",
        )
        wire = to_wire(event, source="/router")
        return Outgoing(LEDGER, -1, str(lane).encode(), wire.headers, wire.value)

    def _topic_id(self, lane: Lane) -> str:
        return self._admin.topic_ids([uploads_of(lane)])[uploads_of(lane)]

    def _log_start(self, lane: Lane, partition: int) -> int:
        return self._admin.log_start(Partition(uploads_of(lane), partition))


def _head(record: Record) -> ResultHeaders:
    """The head of the result in a record; only inference writes them, so all are readable."""
    try:
        head = parse_result_headers(record.headers)
    except InvalidInput as error:
        raise _broken(record, error) from error
    if head.position.partition != record.at.number:
        raise InvariantBroken(f"{record.at} at {record.offset} is of another partition")
    return head


def _result(record: Record) -> Result:
    """The whole of it."""
    try:
        return one_from_wire(RESULTS, record.headers, record.value)
    except InvalidInput as error:
        raise _broken(record, error) from error


def _broken(record: Record, error: InvalidInput) -> InvariantBroken:
    return InvariantBroken(f"{record.at} at {record.offset}: {error.code}")


def _expired(result: Result, now: datetime) -> Failure:
    return Failure(
        id=result.id,
        time=now,
        account=result.account,
        reference=result.reference,
        position=result.position,
        uploaded_at=result.uploaded_at,
        code=Code.EXPIRED,
        sentence=SENTENCES[Code.EXPIRED],
    )


def topics_of(catalog: Catalog) -> list[str]:
    """What the router reads."""
    return [cutouts_of(lane) for lane in catalog.lane_names]
