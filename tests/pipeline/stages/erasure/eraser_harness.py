"""Parts of the eraser that fail on request, for tests on a real broker."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future

from erasestream.pipeline.stages.erasure.stage import EraserStage
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.consent.ledger_place import place
from erasestream.topics.consent.ledger_view import LedgerView
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter, Written
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.topics.consent.consent_harness import ledger_partitions

Start = Callable[[], EraserStage]
Write = Callable[[Sequence[tuple[Partition, bytes, Wire]]], list[Future[Written]]]


class OutdatedLedger(LedgerView):
    """A view whose leaders are deposed and show an old end offset, or do not answer."""

    is_outdated = True
    is_unavailable = False

    def catch_up(self, partitions: Iterable[Partition], *, deadline_s: float) -> set[Partition]:
        if not self.is_outdated:
            return super().catch_up(partitions, deadline_s=deadline_s)
        return set() if self.is_unavailable else set(partitions)


class PartitionUnavailable(AcknowledgedWriter):
    """A writer for which one partition is unavailable."""

    unavailable: Partition | None = None

    def write_all(self, records: Sequence[tuple[Partition, bytes, Wire]]) -> list[Future[Written]]:
        write = super().write_all
        return [self._answer(record, write) for record in records]

    def begin(self, records: Sequence[tuple[Partition, bytes, Wire]]) -> list[Future[Written]]:
        write = super().begin
        return [self._answer(record, write) for record in records]

    def _answer(self, record: tuple[Partition, bytes, Wire], write: Write) -> Future[Written]:
        if record[0] != self.unavailable:
            return write([record])[0]
        answer: Future[Written] = Future()
        answer.set_exception(Unavailable(str(self.unavailable)))
        return answer


class ManualClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def pending(stage: EraserStage) -> int:
    """Return how many decisions are read and not done."""
    return len(stage.pending)


def run_until(what: str, stage: EraserStage, condition: Callable[[], object]) -> None:
    """Run the stage until the condition is true; at least once."""

    def holds() -> bool:
        stage.run_once()
        return bool(condition())

    eventually(what, holds, poll_s=0)


def erasures_partition(kafka: KafkaFixture, lane: Lane, account: AccountId) -> Partition:
    """Return the partition of `erasures.L` with the account's entries."""
    return place(erasures_of(lane), account, ledger_partitions(kafka, lane)).at
