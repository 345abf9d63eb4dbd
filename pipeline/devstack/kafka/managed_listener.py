"""A listener like those of managed services: SASL inside TLS 1.2, without client certificates.

For tests of clients that have to do with less than mutual TLS 1.3.  SCRAM users are created on the
running broker; tokens are unsigned JSON Web Tokens, whose `sub` is the principal.  No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

NAME = "MANAGED"
PROTOCOL = "SASL_SSL"

TLS_1_2_SUITES = (
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,"
    # Neither AEAD nor forward secret, so that a refusal is the client's.
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"
)

_SECURITY = "org.apache.kafka.common.security"


@dataclass(frozen=True, kw_only=True)
class ManagedListener:
    """The listener's port, and the users of PLAIN with their passwords."""

    port: int
    plain_users: Mapping[str, str] = field(default_factory=dict)

    def entries(self) -> dict[str, str]:
        """Return its part of `server.properties`."""
        users = "".join(f' user_{name}="{word}"' for name, word in self.plain_users.items())
        modules = {
            "scram-sha-512": f"{_SECURITY}.scram.ScramLoginModule required;",
            "scram-sha-256": f"{_SECURITY}.scram.ScramLoginModule required;",
            "plain": f"{_SECURITY}.plain.PlainLoginModule required{users};",
            "oauthbearer": f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
        }
        entries = {
            "ssl.client.auth": "none",
            "ssl.protocol": "TLSv1.2",
            "ssl.enabled.protocols": "TLSv1.2",
            "ssl.cipher.suites": TLS_1_2_SUITES,
            "sasl.enabled.mechanisms": ",".join(modules).upper(),
            **{f"{mechanism}.sasl.jaas.config": line for mechanism, line in modules.items()},
        }
        return {f"listener.name.{NAME.lower()}.{key}": value for key, value in entries.items()}
