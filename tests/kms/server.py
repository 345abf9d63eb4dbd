"""A gRPC server that answers as Cloud KMS does: the methods that the keyring uses.

Messages are those of the package google-cloud-kms.  As in Cloud KMS:

* Each call needs a bearer token, and the permission of its caller on the key.
* Checksums of a request are verified if they are there, and an answer tells which were.
* A version is destroyed when its duration has passed on the clock, which a test advances.  A person
  can restore it until then, and imported material without limit.
* Cloud KMS remembers destroyed versions, and lists 100 in a page unless asked for more.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.cloud.kms_v1 import CryptoKey, CryptoKeyVersion
from google.cloud.kms_v1.types import service

from erasestream.sinks.keys.cloud_kms_client import KmsSettings

RING = "projects/example/locations/europe-west4/keyRings/erasestream"
SERVICE = "google.cloud.kms.v1.KeyManagementService"
State = CryptoKeyVersion.CryptoKeyVersionState
DAY = timedelta(days=1)

WRAP = {"Encrypt", "Decrypt"}
SEE = {"ListCryptoKeyVersions", "GetCryptoKeyVersion"}
ROTATE = {"GetCryptoKey", "CreateCryptoKeyVersion", "DestroyCryptoKeyVersion"}
PERMISSIONS = {
    "sink": WRAP | SEE,
    "reader": {"Decrypt"} | SEE,
    "rotator": WRAP | SEE | ROTATE,
    "auditor": SEE | {"GetCryptoKey"},
    "admin": {"CreateCryptoKey"},
    "eraser": set[str](),
}
"""Methods of each identity, as `deploy/gcp/kms.tf` grants them."""


@dataclass
class _Key:
    message: CryptoKey
    versions: list[CryptoKeyVersion] = field(default_factory=list)
    material: dict[str, bytes] = field(default_factory=dict)


class KmsServer:
    """All keys, in memory.  A test may change its `keys` and its clock, and break its answers."""

    def __init__(self) -> None:
        self.keys: dict[str, _Key] = {}
        self.now = datetime(2026, 5, 6, 7, 8, tzinfo=UTC)
        self.before: Callable[[str, Any], None] = lambda _method, _request: None
        """Called before each call is answered; may abort it with an exception."""
        self.after: Callable[[str, Any], None] = lambda _method, _answer: None
        """May change an answer on its way."""
        self.calls: list[str] = []
        self._lock = threading.RLock()

    def create_key(self, name: str, duration: timedelta = DAY) -> str:
        """Create a key with one version, and return its full name."""
        self._create(f"{RING}/cryptoKeys/{name}", CryptoKey(destroy_scheduled_duration=duration))
        return f"{RING}/cryptoKeys/{name}"

    def version(self, name: str) -> CryptoKeyVersion:
        """Return a version, after what became of it by now."""
        key, _, number = name.partition("/cryptoKeyVersions/")
        found = self.keys[key].versions[int(number) - 1]
        if found.state == State.DESTROY_SCHEDULED and found.destroy_time <= self.now:
            found.state, found.destroy_event_time = State.DESTROYED, found.destroy_time
            if not found.reimport_eligible:
                del self.keys[key].material[found.name]
        return found

    def answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        token = dict(context.invocation_metadata()).get("authorization", "")
        role = token.removeprefix("Bearer ")
        with self._lock:
            self.calls.append(method)
            try:
                _check_permission(role, method)
                self.before(method, request)
                found = getattr(self, f"_{method}")(request)
                self.after(method, found)
            except Aborted as error:
                context.abort(*error.args)
            except KeyError:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such key")
            return found

    def _create(self, name: str, message: CryptoKey) -> CryptoKey:
        if name in self.keys:
            raise Aborted(grpc.StatusCode.ALREADY_EXISTS)
        message.name = name
        message.purpose = message.purpose or CryptoKey.CryptoKeyPurpose.ENCRYPT_DECRYPT
        self.keys[name] = _Key(message)
        self._add_version(name)
        return message

    def _add_version(self, key: str) -> CryptoKeyVersion:
        versions = self.keys[key].versions
        name = f"{key}/cryptoKeyVersions/{len(versions) + 1}"
        versions.append(CryptoKeyVersion(name=name, state=State.ENABLED, create_time=self.now))
        self.keys[key].material[name] = os.urandom(32)
        return versions[-1]

    def _CreateCryptoKey(self, request: service.CreateCryptoKeyRequest) -> CryptoKey:  # noqa: N802
        return self._create(
            f"{request.parent}/cryptoKeys/{request.crypto_key_id}", request.crypto_key
        )

    def _GetCryptoKey(self, request: service.GetCryptoKeyRequest) -> CryptoKey:  # noqa: N802
        return self.keys[request.name].message

    def _CreateCryptoKeyVersion(self, request: Any) -> CryptoKeyVersion:  # noqa: N802
        return self._add_version(request.parent)

    def _GetCryptoKeyVersion(self, request: Any) -> CryptoKeyVersion:  # noqa: N802
        return self.version(request.name)

    def _DestroyCryptoKeyVersion(self, request: Any) -> CryptoKeyVersion:  # noqa: N802
        found = self.version(request.name)
        if found.state not in {State.ENABLED, State.DISABLED}:
            raise Aborted(grpc.StatusCode.FAILED_PRECONDITION, "it is not in a state to destroy")
        key = self.keys[request.name.partition("/cryptoKeyVersions/")[0]].message
        found.state = State.DESTROY_SCHEDULED
        found.destroy_time = self.now + key.destroy_scheduled_duration
        return found

    def _ListCryptoKeyVersions(self, request: Any) -> service.ListCryptoKeyVersionsResponse:  # noqa: N802
        versions = [self.version(each.name) for each in self.keys[request.parent].versions]
        start, size = int(request.page_token or 0), request.page_size or 100
        more = start + size < len(versions)
        return service.ListCryptoKeyVersionsResponse(
            crypto_key_versions=versions[start : start + size],
            next_page_token=str(start + size) if more else "",
            total_size=len(versions),
        )

    def _Encrypt(self, request: service.EncryptRequest) -> service.EncryptResponse:  # noqa: N802
        verified = _verify(request, "plaintext", "additional_authenticated_data")
        # Under the primary version, the first here, unless another is named.
        is_version = "/cryptoKeyVersions/" in request.name
        name = request.name if is_version else f"{request.name}/cryptoKeyVersions/1"
        nonce, bound = os.urandom(12), request.additional_authenticated_data
        sealed = AESGCM(self._usable(name)).encrypt(nonce, request.plaintext, bound)
        raw = name.rpartition("/")[2].encode() + b"\0" + nonce + sealed
        return service.EncryptResponse(
            name=name,
            ciphertext=raw,
            ciphertext_crc32c=google_crc32c.value(raw),
            verified_plaintext_crc32c=verified[0],
            verified_additional_authenticated_data_crc32c=verified[1],
        )

    def _Decrypt(self, request: service.DecryptRequest) -> service.DecryptResponse:  # noqa: N802
        _verify(request, "ciphertext", "additional_authenticated_data")
        self.keys[request.name]
        number, _, rest = request.ciphertext.partition(b"\0")
        try:
            material = self._usable(f"{request.name}/cryptoKeyVersions/{int(number)}")
            bound = request.additional_authenticated_data
            keys = AESGCM(material).decrypt(rest[:12], rest[12:], bound)
        except (InvalidTag, ValueError, LookupError):
            raise Aborted(grpc.StatusCode.INVALID_ARGUMENT, "decryption failed") from None
        return service.DecryptResponse(plaintext=keys, plaintext_crc32c=google_crc32c.value(keys))

    def _usable(self, name: str) -> bytes:
        found = self.version(name)
        if found.state != State.ENABLED:
            raise Aborted(grpc.StatusCode.FAILED_PRECONDITION, f"state {found.state.name}")
        return self.keys[name.partition("/cryptoKeyVersions/")[0]].material[name]


class Aborted(Exception):
    """A status, and its message."""

    def __init__(self, status: grpc.StatusCode, message: str = "refused") -> None:
        super().__init__(status, message)


def _check_permission(role: str, method: str) -> None:
    if role not in PERMISSIONS:
        raise Aborted(grpc.StatusCode.UNAUTHENTICATED)
    if method not in PERMISSIONS[role]:
        raise Aborted(grpc.StatusCode.PERMISSION_DENIED)


def _verify(request: Any, *fields: str) -> list[bool]:
    """Return which fields have a checksum; abort if one does not match."""
    found = [getattr(request, f"{name}_crc32c") for name in fields]
    for name, checksum in zip(fields, found, strict=True):
        if checksum is not None and checksum != google_crc32c.value(getattr(request, name)):
            raise Aborted(grpc.StatusCode.INVALID_ARGUMENT, f"{name}_crc32c does not match")
    return [checksum is not None for checksum in found]


class LocalKms:
    """A running server, and the settings of its clients."""

    def __init__(self, server: KmsServer, endpoint: str, folder: Path) -> None:
        self.server = server
        self._endpoint = endpoint
        self._folder = folder

    def settings(self, key: str, role: str) -> KmsSettings:
        """Return how a role reaches a key."""
        return KmsSettings(
            key=key,
            endpoint=self._endpoint,
            ca_file=self._folder / "ca.crt",
            token_file=self._folder / f"{role}.token",
        )


@contextmanager
def local_kms(folder: Path) -> Iterator[LocalKms]:
    """Run a server with the certificate `kms.crt` in a folder, and write a token for each role."""
    for role in (*PERMISSIONS, "stranger"):
        token = folder / f"{role}.token"
        token.touch(mode=0o600)
        token.write_text(role)
    kms = KmsServer()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, _handlers(kms)),)
    )
    pair = tuple((folder / f"kms.{kind}").read_bytes() for kind in ("key", "crt"))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield LocalKms(kms, f"https://127.0.0.1:{port}", folder)
    finally:
        server.stop(None).wait()


def _handlers(kms: KmsServer) -> dict[str, grpc.RpcMethodHandler]:
    requests = {
        "CreateCryptoKey": (service.CreateCryptoKeyRequest, CryptoKey),
        "GetCryptoKey": (service.GetCryptoKeyRequest, CryptoKey),
        "CreateCryptoKeyVersion": (service.CreateCryptoKeyVersionRequest, CryptoKeyVersion),
        "GetCryptoKeyVersion": (service.GetCryptoKeyVersionRequest, CryptoKeyVersion),
        "DestroyCryptoKeyVersion": (service.DestroyCryptoKeyVersionRequest, CryptoKeyVersion),
        "ListCryptoKeyVersions": (
            service.ListCryptoKeyVersionsRequest,
            service.ListCryptoKeyVersionsResponse,
        ),
        "Encrypt": (service.EncryptRequest, service.EncryptResponse),
        "Decrypt": (service.DecryptRequest, service.DecryptResponse),
    }

    def handler(method: str) -> grpc.RpcMethodHandler:
        request, answer = requests[method]
        return grpc.unary_unary_rpc_method_handler(
            lambda message, context: kms.answer(method, message, context),
            request_deserializer=request.deserialize,
            response_serializer=answer.serialize,
        )

    return {method: handler(method) for method in requests}
