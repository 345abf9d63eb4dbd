"""What the end of a worker says of a send that failed."""

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    RequestTimedOutError,
)

from erasestream.pipeline.runtime.runner import EX_UNAVAILABLE, status_of
from erasestream.pipeline.stages.inference.worker.faust_app import _translated
from erasestream.schemas.errors import Code, Unavailable


@pytest.mark.parametrize(
    "error",
    [RequestTimedOutError(), KafkaTimeoutError(), KafkaConnectionError(), NotEnoughReplicasError()],
)
def test_brokers_that_are_away_are_called_so(error: KafkaError) -> None:
    """A supervisor sees 69 and the code that names the brokers, not an unknown exception."""
    told = _translated(error)
    assert isinstance(told, Unavailable)
    assert told.code is Code.BROKER_UNAVAILABLE
    assert status_of(told) == EX_UNAVAILABLE


def test_what_nobody_foresaw_stays_what_it_is() -> None:
    """A record that no retry makes smaller is a fault of ours."""
    error = MessageSizeTooLargeError()
    assert _translated(error) is error
