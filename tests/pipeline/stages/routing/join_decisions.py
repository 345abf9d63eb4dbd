"""Checks of what a router of the join in memory decides, by true time."""

from collections.abc import Iterator

from erasestream.schemas.codec.cloudevents import from_wire, type_of
from erasestream.schemas.events.images import Cutout, Failure, Retained, Upload
from erasestream.schemas.ids import GrantId
from erasestream.topics.catalog.topic_names import RETAINED, ephemeral_of, uploads_of
from erasestream.topics.kafka.records import Outgoing, Partition, Record
from tests.pipeline.stages.routing.join_brokers import LANE, SKEW_MS, FakeBrokers


def result_in(record: Record | Outgoing) -> Cutout | Failure:
    event = Failure if type_of(record.headers) is Failure else Cutout
    return from_wire(event, record.headers, record.value)


class DecisionCheck:
    """Checks of the decisions of one router, by the true decisions of the accounts."""

    def __init__(self, brokers: FakeBrokers) -> None:
        self._brokers = brokers
        self._decisions_at_mark = 0

    def take_mark(self) -> None:
        """Note how many decisions were made before the mark was taken."""
        self._decisions_at_mark = len(self._brokers.decisions)

    def check(self, record: Record, outgoing: list[Outgoing]) -> None:
        if not any(each.topic == ephemeral_of(LANE) for each in outgoing):
            assert outgoing == [], "retained but not delivered"
            return
        retained = [
            from_wire(Retained, each.headers, each.value)
            for each in outgoing
            if each.topic == RETAINED
        ]
        assert len(retained) in (0, 2), "photo and cut-out, or neither"
        grants = {event.grant for event in retained}
        result = result_in(record)
        allowed = set(self._allowed_grants(result))
        found = grants.pop() if grants else None
        assert found in allowed, f"retained under {found}, allowed: {allowed}"

    def _allowed_grants(self, result: Cutout | Failure) -> Iterator[GrantId | None]:
        """Yield the grants that the result may be retained under, by true time; None: not at all.

        ConsentState after the mark was taken may be applied already, or not.
        """
        decisions = self._brokers.decisions
        original = self._brokers.read(
            Partition(uploads_of(LANE), result.position.partition), result.position.offset
        )
        is_there = original and from_wire(Upload, original.headers, original.value).id == result.id
        for applied in range(self._decisions_at_mark, len(decisions) + 1):
            of_account = [each for each in decisions[:applied] if each.account == result.account]
            last = of_account[-1] if of_account else None
            if last is None or last.grant is None or isinstance(result, Failure) or not is_there:
                yield None
                continue
            after_ms = self._brokers.uploaded_ms[result.id] - last.at_ms
            if after_ms > 0:
                yield last.grant
            if after_ms <= 4 * SKEW_MS:
                yield None
