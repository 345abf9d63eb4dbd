"""Sealed pictures that the encryption stage cannot store: each concerns itself alone."""

import pytest

from erasestream.pipeline.stages.encryption.picture_store import Outcome
from erasestream.pipeline.stages.encryption.stage import EncryptionStage
from erasestream.schemas.errors import Code, ErasestreamError, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.sinks.images.capsule_keys import KeyDead, PictureBroken
from erasestream.topics.catalog.roles import SINK
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.partition_broken import Defect
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.stages.encryption.sink_harness import RecordingSink, Retain, granted


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (PictureBroken(), Outcome.UNREADABLE),
        (KeyDead(), Outcome.EXPIRED),
        (Unavailable("on purpose", Code.KEYS_UNAVAILABLE), Outcome.STORED),
    ],
)
def test_a_sealed_picture_that_is_not_opened_holds_up_no_other(
    kafka: KafkaFixture,
    lane: Lane,
    stage: EncryptionStage,
    losses: list[tuple[str, str]],
    sink: RecordingSink,
    retain: Retain,
    failure: ErasestreamError,
    outcome: Outcome,
) -> None:
    """Broken: committed up to it.  Dead: dropped, in the ledger.  Without keys: stored later."""
    at = Partition(RETAINED, 0)
    sink.failure = failure
    grant, mark = granted(kafka, lane)
    retain(lane, grant, mark)
    end = kafka.offsets.log_end(at)
    eventually("it is tried", lambda: stage.run_once() or sink.failure is None, poll_s=0)
    retain(lane, grant, mark)

    def committed() -> int | None:
        stage.run_once()
        found = kafka.groups.committed(SINK, [at]).get(at)
        return found.offset if found else None

    stored = 1 + (outcome is Outcome.STORED)
    eventually("the next is stored", lambda: stage.run_once() or len(sink.grants) == stored)
    is_broken = outcome is Outcome.UNREADABLE
    done = end - 1 if is_broken else end + 1
    eventually("it is committed", lambda: committed() == done, poll_s=0)
    is_lost = outcome is Outcome.EXPIRED
    assert losses == [(lane, f"1 images of {lane}, from {at} at {end - 1}")] * is_lost
    assert stage.quarantined() == [(*at, Defect.UNDECIDABLE_RECORD)] * is_broken
