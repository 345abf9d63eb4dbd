"""How the worker's Kafka clients prove their role: by certificate, or by SASL inside TLS.

aiokafka reads the TLS context and a token's provider for each connection, but keeps the user and
password that a client was constructed with.  So a renewed password is put into the clients.
"""

import ssl

from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials

from erasestream.topics.kafka.sasl import Authentication, Login, Sasl


class BrokerLogin:
    """The credentials of all clients of one worker."""

    def __init__(self, tls: ssl.SSLContext, sasl: Sasl | None) -> None:
        """Without `sasl`, the certificate in the TLS context is the proof."""
        self._tls = tls
        self._sasl = sasl
        self._clients: list[AIOKafkaClient] = []

    def credentials(self) -> Credentials:
        """Return the credentials for Faust.  Raises `MissingCertificate`."""
        if self._sasl is None:
            return SSLCredentials(context=self._tls)
        if self._sasl.mechanism is Authentication.OAUTHBEARER:
            return OAuthCredentials(oauth_cb=_TokenFile(self._sasl), ssl_context=self._tls)
        user, password = self._sasl.login()
        return SASLCredentials(
            mechanism=self._sasl.mechanism.value,
            username=user,
            password=password,
            ssl_context=self._tls,
        )

    def keep(self, client: AIOKafkaClient) -> None:
        """Renew the password of this client, too."""
        self._clients.append(client)

    def renew(self) -> None:
        """Let later connections use the password that is in the file now.

        Raises `MissingCertificate`.
        """
        if self._sasl is None or self._sasl.mechanism is Authentication.OAUTHBEARER:
            return
        login: Login = self._sasl.login()
        for client in self._clients:
            client._sasl_plain_username, client._sasl_plain_password = login


class _TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Reads the token for each connection."""

    def __init__(self, sasl: Sasl) -> None:
        self._sasl = sasl

    async def token(self) -> str:
        """Return the token that is in the file now."""
        return self._sasl.token()

    def extensions(self) -> dict[str, str]:
        """Return what is sent with the token."""
        return dict(self._sasl.extensions)
