"""What can go wrong, and what the stage that meets it does next.

The class says what happens next, and nothing else does:

* `InvalidInput`: the input is at fault.  The upload yields a *failed* result with the
  error's code, and the stage goes on.
* `Unavailable`: something that we need is away.  Wait, then try the same record again;
  never skip it.
* `Fenced`: another process has taken this one's place.  End the process.
* `InvariantBroken`: what must always be true is not.  End the process and call a person.
* `Refused`: this process may not run, or may not do this, as it is set up.  It ends with
  a sentence that says what to change.

Every error has a stable `code` and one sentence for the person who meets it.  Messages
carry ids and numbers, never pixels, keys or account ids.
"""

from enum import StrEnum


class Code(StrEnum):
    """Stable codes.  A code is never renamed and never used for something else."""

    # The input is at fault: these reach the customer as failed results.
    EMPTY = "empty"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    ANIMATED = "animated"
    INVALID_ACCOUNT = "invalid_account"
    INVALID_OPTIONS = "invalid_options"
    INVALID_EVENT = "invalid_event"
    UNSUPPORTED_VERSION = "unsupported_version"
    ENCODING_FAILED = "encoding_failed"
    RESULT_TOO_LARGE = "result_too_large"
    PROCESSING_CRASHED = "processing_crashed"
    PROCESSING_TIMEOUT = "processing_timeout"
    EXPIRED = "expired"
    # Something that we need is away.
    BROKER_UNAVAILABLE = "broker_unavailable"
    BUCKET_UNAVAILABLE = "bucket_unavailable"
    KEYRING_UNAVAILABLE = "keyring_unavailable"
    QUEUE_FULL = "queue_full"
    # The process ends.
    FENCED = "fenced"
    INVARIANT_BROKEN = "invariant_broken"
    # The set-up is at fault.
    MISCONFIGURED = "misconfigured"
    NOT_AUTHORIZED = "not_authorized"
    NOT_AUTHENTICATED = "not_authenticated"
    CERTIFICATE_REFUSED = "certificate_refused"
    MISSING_TOPIC = "missing_topic"
    MISSING_BUCKET = "missing_bucket"
    MISSING_MODEL = "missing_model"
    MISSING_CERTIFICATE = "missing_certificate"
    MODEL_REFUSED = "model_refused"
    ISOLATION_MISSING = "isolation_missing"
    PROMISE_EXCEEDED = "promise_exceeded"
    USED_AFTER_FORK = "used_after_fork"
    CLOSED = "closed"
    CHECKPOINT_REFUSED = "checkpoint_refused"
    # A row of a manifest, or the file that it names, is at fault.
    INVALID_ROW = "invalid_row"
    MISSING_FILE = "missing_file"
    UNREADABLE_FILE = "unreadable_file"
    # What is sealed can not be opened, or is not there.
    SEAL_BROKEN = "seal_broken"
    ERASED = "erased"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"


SENTENCES: dict[Code, str] = {
    Code.EMPTY: "The upload has no bytes: send the image itself as the value.",
    Code.UNSUPPORTED_FORMAT: "This is not a JPEG, PNG or WebP image: convert it and send it again.",
    Code.TRUNCATED: "The image ends too early: it was probably cut off on its way; send it again.",
    Code.CORRUPT: "The image is damaged and can not be read: save it anew and send it again.",
    Code.TOO_LARGE: "The image has more bytes than are taken: send a smaller file.",
    Code.TOO_MANY_PIXELS: "The image has more pixels than are taken: send it with fewer.",
    Code.ANIMATED: "The image has several frames: send a single frame.",
    Code.INVALID_ACCOUNT: "The account id is missing or not of the form [A-Za-z0-9_-]{1,64}.",
    Code.INVALID_OPTIONS: "An option is unknown or has a value that is not allowed.",
    Code.INVALID_EVENT: "A required attribute of the event is missing or malformed.",
    Code.UNSUPPORTED_VERSION: "The event is of a version that this release does not know: upgrade.",
    Code.ENCODING_FAILED: "The cut-out can not be written in the format asked for: ask for png.",
    Code.RESULT_TOO_LARGE: "The cut-out would be larger than 64 MB: ask for less, or for auto.",
    Code.PROCESSING_CRASHED: "Processing this image failed; it was not kept. Send another version.",
    Code.PROCESSING_TIMEOUT: "Processing this image took too long; it was not kept.",
    Code.EXPIRED: "The upload waited longer than allowed and was not processed: send it again.",
    Code.BROKER_UNAVAILABLE: "The Kafka brokers can not be reached; trying again.",
    Code.BUCKET_UNAVAILABLE: "The bucket can not be reached; trying again.",
    Code.KEYRING_UNAVAILABLE: "The keyring can not be reached; trying again.",
    Code.QUEUE_FULL: "Too many records wait to be sent: send more slowly.",
    Code.FENCED: "Another process took over; this one ends and its supervisor starts it again.",
    Code.INVARIANT_BROKEN: "What must always hold does not; nothing more is done here.",
    Code.MISCONFIGURED: "A setting is missing or wrong.",
    Code.NOT_AUTHORIZED: "This role has no right to do this: run `erasestream provision`.",
    Code.NOT_AUTHENTICATED: "The server does not know this identity: check certificate and token.",
    Code.CERTIFICATE_REFUSED: "The TLS handshake failed: check CA, host name and certificates.",
    Code.MISSING_TOPIC: "A topic is missing: run `erasestream provision`.",
    Code.MISSING_BUCKET: "A bucket is missing or closed to this role: check settings and rights.",
    Code.MISSING_MODEL: "The model is not installed: run `erasestream model install`.",
    Code.MISSING_CERTIFICATE: "A certificate or key file of this role is missing.",
    Code.ISOLATION_MISSING: "The kernel can not isolate images: run one that has what is missing.",
    Code.MODEL_REFUSED: "The model file is not the one that its manifest describes.",
    Code.PROMISE_EXCEEDED: "With these lifetimes a byte could outlive the promise: shorten them.",
    Code.USED_AFTER_FORK: "Create the client after the fork: it can not cross one.",
    Code.CLOSED: "The client is closed: create a new one.",
    Code.CHECKPOINT_REFUSED: "The checkpoint can not be used for this upload.",
    Code.INVALID_ROW: "The row can not be read, or has a column too many or too few.",
    Code.MISSING_FILE: "The file that the row names does not exist.",
    Code.UNREADABLE_FILE: "The file that the row names can not be read.",
    Code.SEAL_BROKEN: "The object can not be opened: it is not what was asked for, or was changed.",
    Code.ERASED: "The consent that this object was kept under is revoked: it is erased.",
    Code.NOT_FOUND: "There is no such object.",
    Code.ALREADY_EXISTS: "An object of that name exists already.",
}


class ErasestreamError(Exception):
    """The base of all: a stable code, a sentence, and an optional detail (ids, numbers)."""

    default = Code.INVARIANT_BROKEN

    def __init__(self, detail: str = "", *, code: Code | None = None) -> None:
        self.code = code or self.default
        self.detail = detail
        super().__init__(f"{self.code}: {self.sentence}")

    @property
    def sentence(self) -> str:
        """What happened and what to do, for a person; ends with the detail if there is one."""
        base = SENTENCES[self.code]
        return f"{base} ({self.detail})" if self.detail else base


class InvalidInput(ErasestreamError):
    """The input is at fault: a failed result, go on."""

    default = Code.INVALID_EVENT


class InvalidImage(InvalidInput):
    """The image is at fault."""

    default = Code.UNSUPPORTED_FORMAT


class InvalidEvent(InvalidInput):
    """The event around the image is at fault."""

    default = Code.INVALID_EVENT


class Unavailable(ErasestreamError):
    """Something that we need is away: back off, then the same record again; never skip."""

    default = Code.BROKER_UNAVAILABLE


class Fenced(ErasestreamError):
    """Another process has taken this one's place: end the process."""

    default = Code.FENCED


class InvariantBroken(ErasestreamError):
    """What must always be true is not: end the process and call a person."""

    default = Code.INVARIANT_BROKEN


class Refused(ErasestreamError):
    """This process may not run, or may not do this, as it is set up: say what to change."""

    default = Code.MISCONFIGURED


class SealBroken(ErasestreamError):
    """A sealed object can not be opened.  One error for every cause, so that it tells nothing."""

    default = Code.SEAL_BROKEN


class NotFound(ErasestreamError):
    """There is no such object."""

    default = Code.NOT_FOUND


class AlreadyExists(ErasestreamError):
    """An object of that name exists already; it is left as it is."""

    default = Code.ALREADY_EXISTS


class Erased(ErasestreamError):
    """The grant that this belongs to is revoked and marked erased: drop it, never keep it."""

    default = Code.ERASED
