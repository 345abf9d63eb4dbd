"""TLS settings of a client, from the files of its role.

There is no plaintext path: all client settings come from here, and always mean mutual TLS with the
chain and the host name verified.  An identities folder holds `ca.crt`
and, per role, `<role>.crt` (with its chain) and `<role>.key` (PKCS#8).
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from erasestream.schemas.errors import CertificateRefused, MissingCertificate
from erasestream.topics.catalog.roles import Role

NO_TLS_1_2_SUITE = "PSK-AES256-GCM-SHA384"
"""librdkafka has no setting for the minimum TLS version.  Its cipher list is that of TLS 1.2 and
below; this suite needs a pre-shared key, which no client of ours has, so no handshake below 1.3
succeeds.  TLS 1.3 suites (all AEAD, forward secret) are not affected."""

_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}
_TOO_WEAK = {"EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"}
"""Reasons of OpenSSL, by their names there."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Certificate and key of a role, and the CA that it trusts."""

    role: Role
    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def load(cls, directory: Path, role: Role) -> "Identity":
        """Return the identity of a role, if its files are a key with its certificate, and a CA.

        Raises `MissingCertificate` or `CertificateRefused` naming the file.
        """
        identity = cls(
            role=role,
            ca=directory / "ca.crt",
            certificate=directory / f"{role}.crt",
            key=directory / f"{role}.key",
        )
        for path in (identity.ca, identity.certificate, identity.key):
            if not path.is_file():
                raise MissingCertificate(f"no file {path}")
        identity.ssl_context()
        return identity

    def client_settings(self) -> dict[str, str | int | float | bool]:
        """Return the settings for librdkafka."""
        return {
            "security.protocol": "ssl",
            "ssl.ca.location": str(self.ca),
            "ssl.certificate.location": str(self.certificate),
            "ssl.key.location": str(self.key),
            "ssl.cipher.suites": NO_TLS_1_2_SUITE,
            "enable.ssl.certificate.verification": True,
            "ssl.endpoint.identification.algorithm": "https",
        }

    def ssl_context(self) -> ssl.SSLContext:
        """Return the same for clients that use Python's ssl module.

        Raises `CertificateRefused` naming the file that is at fault.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Load CA, certificate and key, in place of those that the context has.

        Never asks for a pass phrase.  Raises `CertificateRefused` naming the file at fault.
        """
        _load_certificates(context, self.ca)
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


def _load_certificates(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise CertificateRefused(f"{path}: not a certificate in PEM form") from None
    except OSError as error:
        raise CertificateRefused(f"{path}: {error.strerror}") from None
