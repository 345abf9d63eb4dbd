"""Errors with which a worker ends after a failed send."""

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
from erasestream.pipeline.stages.inference.worker.result_sender import translate_error
from erasestream.schemas.errors import Code, Unavailable


@pytest.mark.parametrize(
    "error",
    [RequestTimedOutError(), KafkaTimeoutError(), KafkaConnectionError(), NotEnoughReplicasError()],
)
def test_unavailable_brokers_are_reported_as_such(error: KafkaError) -> None:
    """A supervisor sees 69 and the code that names the brokers, not an unknown exception."""
    translated = translate_error(error)
    assert isinstance(translated, Unavailable)
    assert translated.code is Code.BROKER_UNAVAILABLE
    assert status_of(translated) == EX_UNAVAILABLE


def test_an_unexpected_error_is_not_translated() -> None:
    """A record that is too large is a fault of ours, and no retry makes it smaller."""
    error = MessageSizeTooLargeError()
    assert translate_error(error) is error
