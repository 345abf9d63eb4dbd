"""The consent join: route every result, exactly once, by the freshest consent.

Every result goes to the ephemeral topic of its lane, which deletes it in time.  The router
decides whether upload and cut-out also go to the encryption sink.

For every result, in this order:

1. Results wait until the consent view has applied every decision made before they were read
   (`consent_freshness.py`, `freshness_barrier.py`).
2. Replays are dropped, and uploads missing before a result are findings (`replay_marks.py`,
   `deduplication.py`).
3. The retention rule chooses the route (`routing_rule.py`).
4. A retained cut-out needs its original, which is read again from its position.  Without it the
   result is ephemeral (`retention.py`).
5. Where a gateway serves the lane, the index gets an entry about the result, in the same
   transaction (`record_builder.with_index`).

The rules are pure; the loop makes the decisions atomic.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import assert_never

from erasestream.pipeline.stages.routing import routing_rule
from erasestream.pipeline.stages.routing.consent_freshness import ConsentFreshness
from erasestream.pipeline.stages.routing.deduplication import Classification, Novelty
from erasestream.pipeline.stages.routing.ports import BrokerQueries, FreshConsent, RecordSource
from erasestream.pipeline.stages.routing.record_builder import (
    ephemeral_record,
    failed_record,
    gap_finding,
    held_record,
    with_index,
)
from erasestream.pipeline.stages.routing.replay_marks import ReplayMarks
from erasestream.pipeline.stages.routing.result_parser import parse_headers, parse_result
from erasestream.pipeline.stages.routing.retention import Missing, Retention
from erasestream.pipeline.stages.routing.routed_lanes import RoutedLanes
from erasestream.pipeline.stages.routing.routing_rule import Route
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.codec.result_headers import ResultHeaders
from erasestream.schemas.errors import Code, InvariantBroken
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.images import Cutout, Failure, Result
from erasestream.schemas.events.ledger import FindingKind
from erasestream.schemas.ids import GrantId, Lane
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.topic_names import cutouts_of, lane_of
from erasestream.topics.consent.view import ActiveGrant
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from erasestream.topics.kafka.transaction.start_offsets import StartOffset


class Router:
    """The handler of a `TransactionalLoop`: decides what each result becomes."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        view: FreshConsent,
        originals: RecordSource,
        offsets: BrokerQueries,
        now: WallClock = utc_now,
    ) -> None:
        self._lanes = RoutedLanes(catalog)
        self._view = view
        self._now = now
        self._freshness = ConsentFreshness(view=view)
        self._marks = ReplayMarks(offsets)
        self._retention = Retention(view=view, originals=originals, now=now)
        self.counts: Counter[str] = Counter()
        """Decisions by route, not deliveries: one that was aborted and repeated counts twice."""

    def on_assigned(self, starts: Mapping[Partition, StartOffset]) -> None:
        """Take the replay marks that were committed with the start offsets."""
        self._marks.on_assigned(starts)

    def initial_offset(self, at: Partition) -> StartOffset | None:
        """Return where a partition starts of which provably nothing was routed, or None."""
        return self._marks.initial_offset(at)

    def offset_metadata(self, at: Partition) -> str:
        """Return the replay mark of a partition after the last handled record."""
        return str(self._marks[at])

    def on_read(self, partitions: Collection[Partition]) -> None:
        """Take the marks of the lanes of which these partitions were just read."""
        self._freshness.on_read(partitions)

    def is_ready(self, at: Partition) -> bool:
        """Return whether the view has applied every decision made before these were read."""
        return self._freshness.is_fresh(at)

    def handle(self, record: Record) -> list[Outgoing]:
        """Return the records that a result becomes: none for a replay, else one to four.

        The mark moves last: whatever is raised, the record can be handled again.
        """
        lane = lane_of(record.at.topic)
        headers = parse_headers(record)
        classification = self._marks.classify(lane, record, headers.position)
        outgoing: list[Outgoing] = []
        if classification.novelty is Novelty.REPLAY:
            self.counts["replayed"] += 1
        else:
            outgoing += self._findings(lane, headers.position, classification)
            outgoing += self._route(lane, record, headers)
        self._marks.advance(record.at, classification)
        return outgoing

    def _findings(
        self, lane: Lane, position: Position, classification: Classification
    ) -> Iterable[Outgoing]:
        purged, unrouted = classification.purged, classification.unrouted
        if purged:
            self.counts["purged"] += purged
            kind, missing = FindingKind.UPLOADS_PURGED_UNPROCESSED, f"{purged} uploads"
            yield gap_finding(kind, lane, position, missing, self._now())
        if unrouted:
            self.counts["unrouted"] += unrouted
            kind, missing = FindingKind.RESULTS_PURGED_UNROUTED, f"{unrouted} results"
            yield gap_finding(kind, lane, position, missing, self._now())

    def _route(self, lane: Lane, record: Record, headers: ResultHeaders) -> Iterable[Outgoing]:
        grant = self._view.active_grant(lane, headers.account)
        now, is_indexed = self._now(), lane in self._lanes.indexed
        route = routing_rule.choose_route(
            headers,
            granted_at=grant.appended_at if grant else None,
            now=now,
            backlog_limit=self._lanes.backlog_limits[lane],
        )
        match route:
            case Route.EXPIRED:
                self.counts["expired"] += 1
                expired = Failure.in_place_of(parse_result(record), Code.EXPIRED, now)
                delivered = failed_record(lane, expired)
                yield with_index(delivered, lane, expired) if is_indexed else delivered
            case Route.EPHEMERAL:
                self.counts["ephemeral"] += 1
                delivered = ephemeral_record(lane, record, has_capsule=headers.has_capsule)
                if is_indexed:
                    delivered = with_index(delivered, lane, parse_result(record))
                yield delivered
            case Route.RETAINED:
                result = parse_result(record)
                retained = self._retained(lane, result, grant)
                delivered = ephemeral_record(lane, record, has_capsule=headers.has_capsule)
                if is_indexed:
                    delivered = with_index(delivered, lane, result, is_retained=bool(retained))
                yield delivered
                yield from retained
            case _:
                assert_never(route)

    def _retained(self, lane: Lane, result: Result, grant: ActiveGrant | None) -> list[Outgoing]:
        if not isinstance(result, Cutout) or grant is None:
            raise InvariantBroken("a result to be retained is no cut-out, or not granted")
        records = self._retention.records(lane, result, grant.grant)
        if isinstance(records, Missing):
            self.counts["ephemeral"] += 1
            self.counts[records] += 1
            return []
        self.counts["retained"] += 1
        return [*records, *self._held(lane, result, grant.grant)]

    def _held(self, lane: Lane, cutout: Cutout, grant: GrantId) -> Iterable[Outgoing]:
        """Yield the record that counts the upload, for a lane with an account page."""
        if (place := self._lanes.held_place(lane, cutout.account)) is not None:
            yield held_record(place, lane, cutout, grant=grant, now=self._now())


def topics_of(catalog: Catalog) -> list[str]:
    """Return the topics that the router reads."""
    return [cutouts_of(lane) for lane in catalog.lane_names]
