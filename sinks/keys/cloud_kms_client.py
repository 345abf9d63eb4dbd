"""Calls to Cloud KMS: connection, identity, deadline, checksums and errors of one master key.

The library's errors end here, and its retries are off: the caller retries.  Its messages name the
key's project, so they are not passed on.
"""

import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import google.auth.transport.grpc
import google.auth.transport.requests
import google_crc32c
import grpc
from google.api_core.exceptions import (
    FailedPrecondition,
    Forbidden,
    GoogleAPICallError,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from google.cloud import kms_v1
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceGrpcTransport,
)

from erasestream.schemas.errors import (
    CertificateRefused,
    Code,
    ErasestreamError,
    KeyringAccessDenied,
    MissingCertificate,
    NotAuthenticated,
    Refused,
    SealBroken,
    Unavailable,
)
from erasestream.sinks.buckets.gcs_client import credentials_of

SCOPES = ("https://www.googleapis.com/auth/cloudkms",)
GOOGLE = "https://cloudkms.googleapis.com"
HTTPS_PORT = "443"
TIMEOUT_S = 10.0
KEY_PATTERN = re.compile(
    r"projects/[^/]+/locations/[^/]+/keyRings/[\w-]{1,63}/cryptoKeys/[\w-]{1,63}", re.ASCII
)
_CHECKSUM = "crc32c"
"""Part of the names of all checksums in a request: Cloud KMS names the one that does not match."""

# At DEBUG the library logs requests and answers: keys in clear.
logging.getLogger("google.cloud.kms_v1").setLevel(logging.WARNING)


class KmsSettings(NamedTuple):
    """A master key in Cloud KMS, and the identity to use."""

    key: str
    """`projects/P/locations/L/keyRings/R/cryptoKeys/K`."""
    endpoint: str = GOOGLE
    ca_file: Path | None = None
    """The only trusted authority; without it, the public ones."""
    token_file: Path | None = None
    """The role's bearer token; without it, Application Default Credentials."""


def open_client(settings: KmsSettings) -> kms_v1.KeyManagementServiceClient:
    """Open a client; it does not connect yet.  Raises `Refused` for settings that cannot work."""
    if KEY_PATTERN.fullmatch(settings.key) is None:
        raise Refused("storage.kms_key: not a name of a key in Cloud KMS")
    if not settings.endpoint.startswith("https://"):
        raise Refused("the keyring's endpoint must begin with https://")
    host, _, port = settings.endpoint.removeprefix("https://").partition(":")
    channel = google.auth.transport.grpc.secure_authorized_channel(  # type: ignore[no-untyped-call]
        credentials_of(settings.token_file, SCOPES),
        google.auth.transport.requests.Request(),
        f"{host}:{port or HTTPS_PORT}",
        ssl_credentials=grpc.ssl_channel_credentials(_authority(settings.ca_file)),
    )
    transport = KeyManagementServiceGrpcTransport(channel=channel)
    return kms_v1.KeyManagementServiceClient(transport=transport)


def _authority(ca_file: Path | None) -> bytes | None:
    """Return the trusted authority in PEM form; None: the public ones."""
    if ca_file is None:
        return None
    try:
        ssl.create_default_context(cafile=ca_file)
        return ca_file.read_bytes()
    except FileNotFoundError:
        raise MissingCertificate(f"the keyring's CA: no file {ca_file}") from None
    except OSError:  # an error of ssl, too
        detail = f"the keyring's CA: {ca_file} holds no certificate in PEM form"
        raise CertificateRefused(detail) from None


@contextmanager
def translated() -> Iterator[None]:
    """Run a call, and raise errors of this project only.

    `SealBroken`: Cloud KMS does not decrypt this, or not under a version in this state.
    """
    try:
        yield
    except GoogleAPICallError as error:
        raise _translate(error) from error


def _translate(error: GoogleAPICallError) -> ErasestreamError:
    match error:
        case Unauthenticated():
            return NotAuthenticated("Cloud KMS")
        case Forbidden():
            return KeyringAccessDenied("Cloud KMS")
        case NotFound():
            return Refused("Cloud KMS has no such key or version: check storage.kms_key")
        case InvalidArgument() if _CHECKSUM not in str(error):
            return SealBroken()
        case FailedPrecondition():
            return SealBroken()
        case _:
            return Unavailable("Cloud KMS", Code.KEYRING_UNAVAILABLE)


def crc32c(data: bytes) -> int:
    """Return the checksum that goes with data, both ways."""
    return int(google_crc32c.value(data))


def verify_checksums(*verified: bool) -> None:
    """Raise `Unavailable` unless all of an answer's checksums were verified.

    Google asks to discard such an answer, and to repeat the request.
    """
    if not all(verified):
        raise Unavailable("checksum of an answer of Cloud KMS", Code.KEYRING_UNAVAILABLE)
