"""Stable codes of all errors and failed results, each with one sentence for a person."""

from enum import StrEnum


class Code(StrEnum):
    """Stable codes, never renamed or reused."""

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
    MALFORMED_BATCH = "malformed_batch"
    # A sealed image cannot be opened, or must be sealed and is not.
    NOT_SEALED = "not_sealed"
    UNKNOWN_EPOCH = "unknown_epoch"
    FUTURE_EPOCH = "future_epoch"
    WRONG_PURPOSE = "wrong_purpose"
    WRONG_CONTEXT = "wrong_context"
    SEAL_BROKEN = "seal_broken"
    # A dependency cannot be reached.
    BROKER_UNAVAILABLE = "broker_unavailable"
    BUCKET_UNAVAILABLE = "bucket_unavailable"
    KEYRING_UNAVAILABLE = "keyring_unavailable"
    KEYS_UNAVAILABLE = "keys_unavailable"
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
    UNSAFE_BUCKET = "unsafe_bucket"
    MISSING_MODEL = "missing_model"
    MISSING_CERTIFICATE = "missing_certificate"
    MODEL_REFUSED = "model_refused"
    ISOLATION_MISSING = "isolation_missing"
    PROMISE_EXCEEDED = "promise_exceeded"
    USED_AFTER_FORK = "used_after_fork"
    CLOSED = "closed"
    ACCOUNT_CLOSED = "account_closed"
    CHECKPOINT_REFUSED = "checkpoint_refused"
    # A row of a manifest, or an image file, is at fault.
    INVALID_ROW = "invalid_row"
    MISSING_FILE = "missing_file"
    UNREADABLE_FILE = "unreadable_file"
    REPEATED_KEY = "repeated_key"
    # An object is erased, or does not exist.
    ERASED = "erased"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    # A receipt, or a copy of the log, does not show what it claims.
    PROOF_REFUSED = "proof_refused"


FAILURE_CODES = (
    Code.EMPTY,
    Code.UNSUPPORTED_FORMAT,
    Code.TRUNCATED,
    Code.CORRUPT,
    Code.TOO_LARGE,
    Code.TOO_MANY_PIXELS,
    Code.ANIMATED,
    Code.INVALID_ACCOUNT,
    Code.INVALID_OPTIONS,
    Code.INVALID_EVENT,
    Code.UNSUPPORTED_VERSION,
    Code.ENCODING_FAILED,
    Code.RESULT_TOO_LARGE,
    Code.PROCESSING_CRASHED,
    Code.PROCESSING_TIMEOUT,
    Code.EXPIRED,
    Code.MALFORMED_BATCH,
    Code.NOT_SEALED,
    Code.UNKNOWN_EPOCH,
    Code.FUTURE_EPOCH,
    Code.WRONG_PURPOSE,
    Code.WRONG_CONTEXT,
    Code.SEAL_BROKEN,
)
"""Codes of failed results: everything that a customer can receive instead of a cut-out."""

SENTENCES: dict[Code, str] = {
    Code.EMPTY: "The upload has no bytes: send the image itself as the value.",
    Code.UNSUPPORTED_FORMAT: (
        "This kind of image is not supported: convert it to a common JPEG, PNG or WebP."
    ),
    Code.TRUNCATED: "The image ends too early, probably cut off in transit: send it again.",
    Code.CORRUPT: "The image is damaged and cannot be decoded: save it again and resend it.",
    Code.TOO_LARGE: "The image exceeds the size limit: send a smaller file.",
    Code.TOO_MANY_PIXELS: "The image exceeds the pixel limit: scale it down and send it again.",
    Code.ANIMATED: "The image has several frames: send a single frame.",
    Code.INVALID_ACCOUNT: "The account id is missing or wrong: send [A-Za-z0-9_-]{1,64}.",
    Code.INVALID_OPTIONS: "An option or its value is not allowed: correct it, or leave it out.",
    Code.INVALID_EVENT: "A required attribute of the event is missing or malformed: correct it.",
    Code.UNSUPPORTED_VERSION: "This release does not know this version of the event: upgrade.",
    Code.ENCODING_FAILED: "The cut-out cannot be encoded in the requested format: ask for png.",
    Code.RESULT_TOO_LARGE: (
        "The cut-out would exceed the size limit: ask for a smaller one, or for auto."
    ),
    Code.PROCESSING_CRASHED: "Processing this image failed; it was not kept. Send another version.",
    Code.PROCESSING_TIMEOUT: "Processing took too long; it was not kept: send a smaller image.",
    Code.EXPIRED: "The upload waited longer than allowed and was not processed: send it again.",
    Code.MALFORMED_BATCH: "The producer's Kafka client sent a malformed record batch: replace it.",
    Code.NOT_SEALED: "This lane takes sealed images only: seal the image before sending it.",
    Code.UNKNOWN_EPOCH: "The image is sealed for an epoch without keys: ask the key service again.",
    Code.FUTURE_EPOCH: "The image is sealed for an epoch that has not begun: check your clock.",
    Code.WRONG_PURPOSE: "The image is not sealed for the uploads of this lane: seal it for them.",
    Code.WRONG_CONTEXT: "The image is sealed for another upload, account or part: seal it again.",
    Code.SEAL_BROKEN: "The sealed value was changed or replaced: seal and send it again.",
    Code.BROKER_UNAVAILABLE: "The Kafka brokers cannot be reached: check network and brokers.",
    Code.BUCKET_UNAVAILABLE: "The bucket cannot be reached: check network and endpoint.",
    Code.KEYRING_UNAVAILABLE: (
        "The keyring cannot be read: check its path and permissions, or the way to Cloud KMS."
    ),
    Code.KEYS_UNAVAILABLE: (
        "The key service cannot be reached: check `[keys] endpoints`, network and vault."
    ),
    Code.QUEUE_FULL: "Too many records are waiting to be sent: send more slowly.",
    Code.FENCED: "Another process took over; this one ends and its supervisor restarts it.",
    Code.INVARIANT_BROKEN: "An invariant does not hold: the process ends; call an operator.",
    Code.MISCONFIGURED: "A setting is missing or wrong: correct it.",
    Code.NOT_AUTHORIZED: "This role lacks a right in Kafka: run `erasestream provision`.",
    Code.NOT_AUTHENTICATED: "The server does not accept these credentials: check the role's file.",
    Code.CERTIFICATE_REFUSED: "TLS cannot be set up: check CA, host name, certificates and keys.",
    Code.MISSING_TOPIC: "A topic is missing: run `erasestream provision`.",
    Code.MISSING_BUCKET: "The bucket does not exist or is hidden from this role: check settings.",
    Code.UNSAFE_BUCKET: (
        "The bucket is public, could become so, or keeps deleted objects: change its configuration."
    ),
    Code.MISSING_MODEL: "The model is not installed: run `erasestream model install`.",
    Code.MISSING_CERTIFICATE: "A certificate, key or secret file of this role is missing: add it.",
    Code.ISOLATION_MISSING: "This kernel cannot isolate images: run one with the missing features.",
    Code.MODEL_REFUSED: "The model does not match its manifest: run `erasestream model install`.",
    Code.PROMISE_EXCEEDED: "With these lifetimes a byte could outlive the promise: shorten them.",
    Code.USED_AFTER_FORK: "A client cannot be used after a fork: create it in the child process.",
    Code.CLOSED: "The client is closed: create a new one.",
    Code.ACCOUNT_CLOSED: "Its owner has closed this account for good: opt in with another one.",
    Code.CHECKPOINT_REFUSED: "The checkpoint is of another upload: use its own, or a new one.",
    Code.INVALID_ROW: (
        "The row cannot be parsed, or has a column too many or too few: check its quotation marks."
    ),
    Code.MISSING_FILE: "The image file does not exist: correct its path.",
    Code.UNREADABLE_FILE: "The image file cannot be read: check its permissions.",
    Code.REPEATED_KEY: (
        "An earlier row has this idempotency key for another image: give each image its own key."
    ),
    Code.ERASED: "Its consent is revoked and the object erased: go on without it.",
    Code.NOT_FOUND: "There is no such object: check its name.",
    Code.ALREADY_EXISTS: "An object with this name already exists: use another name.",
    Code.PROOF_REFUSED: "This does not prove what it claims: do not rely on it.",
}
