"""Errors of the client library in our words, and what a client reports of itself.

Nothing hangs silently: what the brokers refuse is learnt from librdkafka's error callback
and from the answers to explicit questions.
"""

import logging
import re
import time

from confluent_kafka import KafkaError, KafkaException

from erasestream.schemas.errors import (
    CertificateRefused,
    ErasestreamError,
    Fenced,
    MissingTopic,
    NotAuthorized,
    Refused,
    Unavailable,
)

log = logging.getLogger(__name__)

_NOT_AUTHORIZED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
_FENCED = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.FENCED_INSTANCE_ID,
}
_OCCUPIED = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION}
_UNKNOWN_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
}
_CERTIFICATE_ALERT = re.compile(r"SSL routines:.*alert (bad certificate|certificate|unknown ca)")
"""What a broker says that refuses our certificate.  In TLS 1.3 that comes after the handshake,
and librdkafka reports it as a lost connection; the words are OpenSSL's."""


def translate(error: KafkaError, context: str = "") -> ErasestreamError:
    """The error in our words; `context` says what was tried (topic names, never content)."""
    code, detail = error.code(), f"{context}: {error.str()}" if context else error.str()
    if code in _NOT_AUTHORIZED:
        return NotAuthorized(detail)
    if code in _OCCUPIED:
        return Refused(f"{detail}: stop the members of the group first")
    if code in _FENCED:
        return Fenced(detail)
    if code in _UNKNOWN_TOPIC:
        return MissingTopic(detail)
    if code == KafkaError._SSL or _CERTIFICATE_ALERT.search(error.str()):
        return CertificateRefused(detail)
    return Unavailable(detail)


def kafka_error(exception: KafkaException) -> KafkaError:
    """The error that a client raised."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)  # noqa: S101 (what the library documents)
    return error


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that said so will do nothing any more: make another."""
    return error.fatal() or error.code() == KafkaError._FATAL


class ClientErrorState:
    """What a client's error callback reported: kept, and said once until all is well again."""

    def __init__(self) -> None:
        self._last: KafkaError | None = None
        self._fatal: KafkaError | None = None
        self.all_away_since_s: float | None = None
        """Since when the client says that no broker is there; None if one is."""

    def __call__(self, error: KafkaError) -> None:
        """Take one report; this is the `error_cb` of a client."""
        first = self._last is None
        if is_fatal(error):
            self._fatal = error
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self.all_away_since_s is None:
            self.all_away_since_s = time.monotonic()
        # A cause (a refused certificate) says more than its consequences (connections lost).
        last = self._last
        if last is None or isinstance(translate(last), Unavailable):
            self._last = error
        if first:
            log.warning("broker_trouble", extra={"code": error.name(), "reason": error.str()})

    def check(self) -> None:
        """Raises `Fenced` if the client said that it can not go on: reading would be silent."""
        if self._fatal is not None:
            raise Fenced(self._fatal.str())

    def settled(self) -> None:
        """An answer came: the trouble is over."""
        if self._last is not None:
            log.warning("broker_back")
        self._last = self.all_away_since_s = None

    def explain(self, otherwise: str) -> ErasestreamError:
        """The best reason known for an answer that did not come."""
        last = self._last  # other threads may settle it meanwhile
        return translate(last, otherwise) if last else Unavailable(otherwise)
