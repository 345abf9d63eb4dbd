"""Errors of the client library as errors of ours."""

import pytest
from confluent_kafka import KafkaError

from erasestream.topics.kafka.errors import translate


@pytest.mark.parametrize("end", ["", ": retrying", ": retrying later", ": recovering and retrying"])
def test_an_error_does_not_end_with_a_retry_that_is_over(end: str) -> None:
    """Librdkafka means itself; the call that got the error has ended."""
    reason = "Failed to acquire idempotence PID from broker b: Not available"
    detail = translate(KafkaError(KafkaError._TRANSPORT, reason + end), "role r").detail
    assert detail.startswith(f"role r: {reason}")
    assert "retrying" not in detail
