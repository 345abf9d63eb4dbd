"""TLS settings of a client, and the proof of its role, from the files in a folder.

There is no plaintext path: all client settings come from here, and always mean TLS with the
chain and the host name verified.  An identities folder holds `ca.crt`
and, per role, `<role>.crt` (with its chain) and `<role>.key` (PKCS#8); or secrets (`sasl.py`) where
the brokers ask for those instead of certificates.
"""

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from erasestream.schemas.errors import CertificateRefused, MissingCertificate
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.sasl import Authentication, Sasl

NO_TLS_1_2_SUITE = "PSK-AES256-GCM-SHA384"
"""librdkafka has no setting for the minimum TLS version.  Its cipher list is that of TLS 1.2 and
below; this suite needs a pre-shared key, which no client of ours has, so no handshake below 1.3
succeeds.  TLS 1.3 suites (all AEAD, forward secret) are not affected."""

TLS_1_2_SUITES = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-GCM-SHA256")
    for signature in ("ECDSA", "RSA")
)
"""Suites of TLS 1.2 with AEAD and forward secrecy (RFC 9325, section 4.2).  None of them exists in
an older version, so that the same list rules those out."""

_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_TOO_WEAK = {"EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"}
"""Reasons of OpenSSL, by their names there."""


class MinimumTls(StrEnum):
    """Oldest version of TLS that a client accepts."""

    TLS_1_3 = "1.3"
    TLS_1_2 = "1.2"
    """For services without 1.3; with `TLS_1_2_SUITES` only."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Proof of a role, and the CA that it trusts.  `sasl` replaces the certificate if not None."""

    role: Role
    directory: Path
    minimum_tls: MinimumTls = MinimumTls.TLS_1_3
    sasl: Sasl | None = None

    @classmethod
    def load(
        cls,
        directory: Path,
        role: Role,
        *,
        minimum_tls: MinimumTls = MinimumTls.TLS_1_3,
        authentication: Authentication = Authentication.CERTIFICATE,
        extensions: Mapping[str, str] | None = None,
    ) -> "Identity":
        """Return the identity of a role, if its files are a key with its certificate, and a CA.

        With SASL, if they are a CA and a secret.  Raises `MissingCertificate` or
        `CertificateRefused` naming the file.
        """
        sasl = Sasl.of(authentication, role, directory, extensions or {})
        identity = cls(role=role, directory=directory, minimum_tls=minimum_tls, sasl=sasl)
        for path in identity.files:
            if not _is_file(path):
                raise MissingCertificate(f"no file {path}")
        identity.ssl_context()
        if sasl:
            sasl.check()
        return identity

    @property
    def ca(self) -> Path:
        """Return the file of the CA that signed the brokers' certificates."""
        return self.directory / "ca.crt"

    @property
    def certificate(self) -> Path:
        """Return the file of the role's certificate, with its chain."""
        return self.directory / f"{self.role}.crt"

    @property
    def key(self) -> Path:
        """Return the file of the certificate's key."""
        return self.directory / f"{self.role}.key"

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that TLS needs."""
        return (self.ca,) if self.sasl else (self.ca, self.certificate, self.key)

    def client_settings(self) -> dict[str, Any]:
        """Return the settings for librdkafka.  Raises `MissingCertificate` without the secret."""
        is_1_3 = self.minimum_tls is MinimumTls.TLS_1_3
        common = {
            "ssl.ca.location": str(self.ca),
            "ssl.cipher.suites": NO_TLS_1_2_SUITE if is_1_3 else TLS_1_2_SUITES,
            "enable.ssl.certificate.verification": True,
            "ssl.endpoint.identification.algorithm": "https",
        }
        if self.sasl:
            return {**common, "security.protocol": "sasl_ssl", **self.sasl.client_settings()}
        return {
            **common,
            "security.protocol": "ssl",
            "ssl.certificate.location": str(self.certificate),
            "ssl.key.location": str(self.key),
        }

    def ssl_context(self) -> ssl.SSLContext:
        """Return the same for clients that use Python's ssl module, without the SASL secret.

        Raises `CertificateRefused` naming the file that is at fault.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
        if self.minimum_tls is MinimumTls.TLS_1_3:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(TLS_1_2_SUITES)
        self.load_into(context)
        return context

    def fingerprint(self) -> bytes | None:
        """Return a digest of what clients keep; None while the files do not fit together."""
        try:
            self.ssl_context()
            digests = [hashlib.sha256(path.read_bytes()).digest() for path in self.files]
            if self.sasl:
                digests.append(hashlib.sha256(self.sasl.kept_by_clients()).digest())
            return b"".join(digests)
        except (OSError, CertificateRefused, MissingCertificate):
            return None

    def load_into(self, context: ssl.SSLContext) -> None:
        """Load CA, certificate and key, in place of those that the context has.

        Never asks for a pass phrase.  Raises `CertificateRefused` naming the file at fault.
        """
        _load_certificates(context, self.ca)
        if self.sasl:
            return
        # On its own first: the library does not tell which of the two files it cannot read.
        _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self.certificate)
        try:
            context.load_cert_chain(self.certificate, self.key, password=self._refuse_pass_phrase)
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                reason = f"{self.key}: not the key of {self.certificate.name}"
            elif error.reason in _TOO_WEAK:
                reason = f"{self.certificate}: its key or signature is too weak"
            else:
                reason = f"{self.key}: not a private key in PEM form"
            raise CertificateRefused(reason) from None
        except OSError as error:
            raise CertificateRefused(f"{self.key}: {error.strerror}") from None

    def _refuse_pass_phrase(self) -> str:
        raise CertificateRefused(f"{self.key}: encrypted; a key without a pass phrase is needed")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # the folder may not be searched, say
        raise CertificateRefused(f"{path}: {error.strerror}") from None


def _load_certificates(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise CertificateRefused(f"{path}: not a certificate in PEM form") from None
    except OSError as error:
        raise CertificateRefused(f"{path}: {error.strerror}") from None
