"""TLS settings of a client, from the files of its role.

There is no plaintext path: all client settings come from here, and always mean mutual TLS with the
chain and the host name verified.  An identities folder holds `ca.crt`
and, per role, `<role>.crt` (with its chain) and `<role>.key` (PKCS#8).
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from erasestream.schemas.errors import MissingCertificate
from erasestream.topics.catalog.roles import Role

NO_TLS_1_2_SUITE = "PSK-AES256-GCM-SHA384"
"""librdkafka has no setting for the minimum TLS version.  Its cipher list is that of TLS 1.2 and
below; this suite needs a pre-shared key, which no client of ours has, so no handshake below 1.3
succeeds.  TLS 1.3 suites (all AEAD, forward secret) are not affected."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Certificate and key of a role, and the CA that it trusts."""

    role: Role
    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def load(cls, directory: Path, role: Role) -> "Identity":
        """Return the identity of a role.  Raises `MissingCertificate` naming the file."""
        identity = cls(
            role=role,
            ca=directory / "ca.crt",
            certificate=directory / f"{role}.crt",
            key=directory / f"{role}.key",
        )
        for path in (identity.ca, identity.certificate, identity.key):
            if not path.is_file():
                raise MissingCertificate(f"no file {path}")
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
        """Return the same for clients that use Python's ssl module."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.certificate, self.key)
        return context
