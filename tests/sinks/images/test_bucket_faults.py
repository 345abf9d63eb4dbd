"""A bucket that fails: the picture is stored all the same, once, and never a part of it."""

import threading

import pytest

from erasestream.pipeline.devstack.gcs_emulator.faults import Fault, switch_faults
from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.ids import GrantId
from tests.sinks.retention_harness import RetentionHarness, listed, picture

POST = frozenset({"POST"})


@pytest.mark.parametrize(
    "fault",
    [
        Fault(methods=POST, bucket="images", status=429, times=2),
        Fault(methods=POST, bucket="images", status=503, times=2),
        Fault(methods=POST, bucket="images", cut_after=100_000, times=2),
        Fault(bucket="vault", status=503, times=2),
    ],
    ids=["429", "503", "cut", "vault"],
)
def test_a_picture_is_stored_once_the_bucket_takes_it(
    harness: RetentionHarness, grant: GrantId, fault: Fault
) -> None:
    """While it fails, nothing is visible."""
    event, sink = picture(grant, bytes(300_000)), harness.sink()
    faults = harness.stack.settings.faults
    switch_faults(faults, [fault])
    try:
        with pytest.raises(Unavailable):
            sink.store(event)
        if fault.bucket == "images":
            assert not listed(harness, event)
        name = RetryUntilStopped(threading.Event(), retry_s=0.1).call(lambda: sink.store(event))
    finally:
        switch_faults(faults, [])
    assert listed(harness, event) == [str(name)]
    assert harness.reader().open(str(name)).plaintext == event.data


def test_a_picture_whose_answer_is_lost_exists_already(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """It is stored at the first attempt; the second finds its name, and that is success."""
    event, sink = picture(grant), harness.sink()
    faults = harness.stack.settings.faults
    lost = Fault(methods=POST, bucket="images", status=503, part="response", times=1)
    switch_faults(faults, [lost])
    try:
        with pytest.raises(Unavailable):
            sink.store(event)
        assert listed(harness, event) == [str(sink.store(event))]
    finally:
        switch_faults(faults, [])
