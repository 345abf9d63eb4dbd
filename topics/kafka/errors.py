"""Errors of the client library as errors of ours, and the last errors that a client reported.

Nothing hangs silently: refusals of the brokers come through librdkafka's error callback and in
answers to requests.
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
    NotAuthenticated,
    NotAuthorized,
    Refused,
    Unavailable,
)

log: logging.Logger = logging.getLogger(__name__)

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
_KINDS = ((_NOT_AUTHORIZED, NotAuthorized), (_FENCED, Fenced), (_UNKNOWN_TOPIC, MissingTopic))
_NOT_AUTHENTICATED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
}
_NO_ANSWER_TO_SASL = "SaslAuthenticateRequest failed"
"""librdkafka's words for a connection that was lost while it authenticated: no refusal."""
_CERTIFICATE_ALERT = re.compile(r"SSL routines:.*alert (bad certificate|certificate|unknown ca)")
"""The alert of a broker that refuses our certificate.  In TLS 1.3 it comes after the handshake,
and librdkafka reports it as a lost connection; the words are OpenSSL's."""


_RETRYING = re.compile(r"[:,;]? *(?:and )?(?:retrying|trying again)[ a-z]*$")
"""The end of some of librdkafka's messages, false once the error ends a call."""


def translate(error: KafkaError, context: str = "") -> ErasestreamError:
    """Return the error as one of ours; `context` names the attempt (topic names, never content)."""
    code, reason = error.code(), _RETRYING.sub("", error.str())
    detail = f"{context}: {reason}" if context else reason
    if code in _OCCUPIED:
        return Refused(f"{detail}: stop the members of the group first")
    for codes, kind in _KINDS:
        if code in codes:
            return kind(detail)
    if code in _NOT_AUTHENTICATED and _NO_ANSWER_TO_SASL not in error.str():
        return NotAuthenticated(detail)
    if code == KafkaError._SSL or _CERTIFICATE_ALERT.search(error.str()):
        return CertificateRefused(detail)
    return Unavailable(detail)


def kafka_error(exception: KafkaException) -> KafkaError:
    """Return the error that a client raised."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)  # noqa: S101 (what the library documents)
    return error


def is_fatal(error: KafkaError) -> bool:
    """Return whether the client that reported this is unusable and must be replaced."""
    return error.fatal() or error.code() == KafkaError._FATAL


class ClientErrorState:
    """Errors that a client's error callback reported; an outage is logged once.

    The first error of an outage is logged as `broker_trouble`, its end as `broker_back`.
    """

    def __init__(self) -> None:
        self._last: KafkaError | None = None
        self._fatal: KafkaError | None = None
        self.all_down_since_s: float | None = None
        """Time since which the client reports all brokers down; None if it reaches one."""

    def __call__(self, error: KafkaError) -> None:
        """Note an error; this is the `error_cb` of a client."""
        first = self._last is None
        if is_fatal(error):
            self._fatal = error
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self.all_down_since_s is None:
            self.all_down_since_s = time.monotonic()
        # A cause (a refused certificate) explains more than its consequences (lost connections).
        last = self._last
        if last is None or isinstance(translate(last), Unavailable):
            self._last = error
        if first:
            log.warning("broker_trouble", extra={"code": error.name(), "reason": error.str()})

    def raise_if_fatal(self) -> None:
        """Raise `Fenced` if the client reported a fatal error: it would deliver nothing more."""
        if self._fatal is not None:
            raise Fenced(self._fatal.str())

    def recovered(self) -> None:
        """End the outage, after an answer."""
        if self._last is not None:
            log.warning("broker_back")
        self._last = self.all_down_since_s = None

    def explain(self, otherwise: str) -> ErasestreamError:
        """Return the error that best explains a missing answer."""
        last = self._last  # another thread may reset it meanwhile
        return translate(last, otherwise) if last else Unavailable(otherwise)
