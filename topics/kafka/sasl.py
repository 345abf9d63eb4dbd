"""SASL of a client: a mechanism, and the secret of a role in files.

Always inside TLS: there is no `SASL_PLAINTEXT`.  Beside `ca.crt`, the identities folder holds

    SCRAM, PLAIN    `<role>.password`, and `<role>.user` where the user is not called as the role
    OAUTHBEARER     `<role>.token`, which another process renews before it expires

A password is read when a client is opened, and the owner of clients replaces them once the file
has changed (`certificate_watcher.py`).  A token is read again every minute, and for every new
connection.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from erasestream.schemas.clocks import utc_now
from erasestream.schemas.errors import MissingCertificate
from erasestream.topics.catalog.roles import Role

TOKEN_READ_AGAIN_S = 60.0
"""Longest time for which a client uses what it has read from a token's file."""


class Authentication(StrEnum):
    """How a client proves its role: its certificate, or one of Kafka's SASL mechanisms."""

    CERTIFICATE = "certificate"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    PLAIN = "PLAIN"
    OAUTHBEARER = "OAUTHBEARER"


class Login(NamedTuple):
    """User and password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login()"  # neither in a log nor in an exception


@dataclass(frozen=True, kw_only=True)
class Sasl:
    """One mechanism, and the folder with the role's secret."""

    mechanism: Authentication
    role: Role
    directory: Path
    extensions: Mapping[str, str] = field(default_factory=dict)
    """Sent with a token (RFC 7628, section 3.1), as some services demand."""

    @classmethod
    def of(
        cls,
        authentication: Authentication,
        role: Role,
        directory: Path,
        extensions: Mapping[str, str],
    ) -> "Sasl | None":
        """Return the SASL of a role; None for a certificate."""
        if authentication is Authentication.CERTIFICATE:
            return None
        return cls(mechanism=authentication, role=role, directory=directory, extensions=extensions)

    def check(self) -> None:
        """Raise `MissingCertificate` if the secret is missing or empty."""
        self.kept_by_clients()
        if self.mechanism is Authentication.OAUTHBEARER:
            self.token()

    def kept_by_clients(self) -> bytes:
        """Return what a client keeps as long as it lives.  Raises `MissingCertificate`."""
        if self.mechanism is Authentication.OAUTHBEARER:
            return b""
        return "\0".join(self.login()).encode()

    def login(self) -> Login:
        """Read user and password.  Raises `MissingCertificate` naming the file."""
        user = self.directory / f"{self.role}.user"
        name = _secret(user) if user.exists() else str(self.role)
        return Login(name, _secret(self.directory / f"{self.role}.password"))

    def token(self) -> str:
        """Read the token.  Raises `MissingCertificate` naming the file."""
        return _secret(self.directory / f"{self.role}.token")

    def client_settings(self) -> dict[str, str | Callable[[str], object]]:
        """Return the settings for librdkafka.  Raises `MissingCertificate`."""
        chosen = {"sasl.mechanism": self.mechanism.value}
        if self.mechanism is Authentication.OAUTHBEARER:
            self.token()
            return {**chosen, "oauth_cb": self._renewed_token}
        login = self.login()
        return {**chosen, "sasl.username": login.user, "sasl.password": login.password}

    def _renewed_token(self, _config: str) -> tuple[str, float, str, dict[str, str]]:
        """Return token, time of the next look, principal and extensions, for librdkafka.

        The library calls this in a thread of its own when most of the time has passed.
        """
        next_look = utc_now().timestamp() + TOKEN_READ_AGAIN_S
        return self.token(), next_look, self.role, dict(self.extensions)


def _secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise MissingCertificate(f"no readable file {path}") from None
    if not secret:
        raise MissingCertificate(f"the file {path} is empty")
    return secret
