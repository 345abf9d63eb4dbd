"""Errors, and how the stage that catches one reacts.

The class alone determines the reaction:

* `InvalidInput`: the input is at fault.  Emit a *failed* result with the error's code and go on.
* `Unavailable`: a dependency cannot be reached.  Back off and retry the same record; never skip it.
* `Fenced`: another process has replaced this one.  End the process.
* `InvariantBroken`: an invariant does not hold.  End the process and call an operator.
* `Refused`: settings or rights do not allow this.  End with a message that names the fix.

Every error has a stable `code` and one sentence for a person.  Messages contain ids and numbers,
never pixels, keys or account ids.
"""

from typing import ClassVar

from erasestream.schemas.error_codes import FAILURE_CODES, SENTENCES, Code

__all__ = [
    "FAILURE_CODES",
    "SENTENCES",
    "AccountClosed",
    "AlreadyExists",
    "BucketAccessDenied",
    "CertificateRefused",
    "CheckpointRefused",
    "ClientClosed",
    "Code",
    "Erased",
    "ErasestreamError",
    "Fenced",
    "InvalidEvent",
    "InvalidImage",
    "InvalidInput",
    "InvariantBroken",
    "IsolationMissing",
    "KeyringAccessDenied",
    "MissingBucket",
    "MissingCertificate",
    "MissingModel",
    "MissingTopic",
    "ModelRefused",
    "NotAuthenticated",
    "NotAuthorized",
    "NotFound",
    "NotReady",
    "PromiseExceeded",
    "ProofRefused",
    "Refused",
    "SealBroken",
    "StageNotReady",
    "Unavailable",
    "UnsafeBucket",
    "UsedAfterFork",
]


class ErasestreamError(Exception):
    """Base of all errors: a stable code, a sentence, and an optional detail (ids, numbers).

    An error survives a process boundary: `args` are those of the constructor, and both are text.
    Pickle and `copy` rebuild an exception from them, and so does Celery with JSON.
    """

    default: ClassVar[Code] = Code.INVARIANT_BROKEN
    advice: ClassVar[str | None] = None  # overrides the sentence of the code
    code: Code
    detail: str

    def __init__(self, detail: str = "", code: Code | str | None = None) -> None:
        self.code = Code(code or self.default)
        self.detail = detail
        super().__init__(detail, self.code)

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"

    @property
    def sentence(self) -> str:
        """Cause and remedy for a person, followed by the detail if there is one."""
        base = self.advice or SENTENCES[self.code]
        return f"{base} ({self.detail})" if self.detail else base


class InvalidInput(ErasestreamError):
    """The input is at fault: emit a failed result and go on."""

    default = Code.INVALID_EVENT


class InvalidImage(InvalidInput):
    """The image is at fault."""

    default = Code.UNSUPPORTED_FORMAT


class InvalidEvent(InvalidInput):
    """The event around the image is at fault."""


class Unavailable(ErasestreamError):
    """A dependency cannot be reached: back off and retry the same record; never skip it."""

    default = Code.BROKER_UNAVAILABLE


class NotReady(Unavailable):
    """A process of the embedded stack, or a file that it needs, is not there in time."""

    advice: ClassVar[str | None] = "The embedded stack is not ready: see the cause, and try again."


class StageNotReady(Unavailable):
    """A stage waits for something that it needs, and has for too long."""

    advice: ClassVar[str | None] = (
        "The stage is not ready: see what its log waits for, and check that service."
    )


class Fenced(ErasestreamError):
    """Another process has replaced this one: end the process."""

    default = Code.FENCED


class InvariantBroken(ErasestreamError):
    """An invariant does not hold: end the process and call an operator."""


class Refused(ErasestreamError):
    """Settings or rights do not allow this.  One subclass for each kind of advice."""

    default = Code.MISCONFIGURED


class NotAuthorized(Refused):
    """A role lacks a right in Kafka: provision the cluster."""

    default = Code.NOT_AUTHORIZED


class BucketAccessDenied(Refused):
    """An identity lacks a permission on a bucket: provisioning Kafka does not help."""

    default = Code.NOT_AUTHORIZED
    advice: ClassVar[str | None] = (
        "This role lacks a permission on the bucket: grant it in the bucket's IAM policy."
    )


class KeyringAccessDenied(Refused):
    """An identity lacks a permission on the master key in Cloud KMS."""

    default = Code.NOT_AUTHORIZED
    advice: ClassVar[str | None] = (
        "This role lacks a permission on the master key: grant it in the key's IAM policy."
    )


class NotAuthenticated(Refused):
    """A bucket or the brokers do not accept a role's password or token: replace it."""

    default = Code.NOT_AUTHENTICATED


class CertificateRefused(Refused):
    """A TLS handshake failed: check CA, host name and certificates."""

    default = Code.CERTIFICATE_REFUSED


class MissingCertificate(Refused):
    """A certificate, key or secret file is missing: put it at the configured path."""

    default = Code.MISSING_CERTIFICATE


class MissingTopic(Refused):
    """A topic does not exist: provision the cluster."""

    default = Code.MISSING_TOPIC


class MissingBucket(Refused):
    """A bucket does not exist or is hidden from this role."""

    default = Code.MISSING_BUCKET


class UnsafeBucket(Refused):
    """A bucket is public, could become so, or keeps what is deleted: configure it otherwise."""

    default = Code.UNSAFE_BUCKET


class MissingModel(Refused):
    """A model, or a tool to build one, is not installed: install it."""

    default = Code.MISSING_MODEL


class ModelRefused(Refused):
    """A model does not match its manifest: install the right file."""

    default = Code.MODEL_REFUSED


class IsolationMissing(Refused):
    """The kernel cannot isolate images: run another kernel, or choose otherwise explicitly."""

    default = Code.ISOLATION_MISSING


class PromiseExceeded(Refused):
    """The configured lifetimes exceed the promise: shorten them."""

    default = Code.PROMISE_EXCEEDED


class UsedAfterFork(Refused):
    """A client was used in a child process: create it after the fork."""

    default = Code.USED_AFTER_FORK


class ClientClosed(Refused):
    """A client was used after `close`: create a new one."""

    default = Code.CLOSED


class AccountClosed(Refused):
    """The owner has closed the account, for good."""

    default = Code.ACCOUNT_CLOSED


class CheckpointRefused(Refused):
    """A checkpoint belongs to another upload, is in use or cannot be read."""

    default = Code.CHECKPOINT_REFUSED


class SealBroken(ErasestreamError):
    """A sealed object cannot be opened.  One error for every cause, so that it leaks none."""

    default = Code.SEAL_BROKEN


class NotFound(ErasestreamError):
    """The object does not exist."""

    default = Code.NOT_FOUND


class AlreadyExists(ErasestreamError):
    """An object with this name already exists; it is left unchanged."""

    default = Code.ALREADY_EXISTS


class Erased(ErasestreamError):
    """The grant is revoked and marked as erased: drop the image, never keep it."""

    default = Code.ERASED


class ProofRefused(ErasestreamError):
    """A receipt, a checkpoint or a copy of the log does not prove what it claims."""

    default = Code.PROOF_REFUSED
