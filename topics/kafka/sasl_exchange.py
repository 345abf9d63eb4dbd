"""Authenticate one connection by SASL, where no client library does it.

PLAIN: RFC 4616.  OAUTHBEARER: RFC 7628.  SCRAM: RFC 5802 and 7677, without channel binding, which
Kafka does not offer; the server proves that it knows the password, too.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

from erasestream.schemas.errors import NotAuthenticated
from erasestream.topics.kafka.sasl import Authentication, Login, Sasl

Exchange = Callable[[bytes], bytes]
"""Sends a message to the server, and returns its answer."""

_HASHES = {Authentication.SCRAM_SHA_512: "sha512", Authentication.SCRAM_SHA_256: "sha256"}
MAX_ITERATIONS = 1_000_000
"""More would let a server occupy a client; Kafka allows 16,384."""


def authenticate(sasl: Sasl, exchange: Exchange) -> None:
    """Prove the role.  Raises `NotAuthenticated` if the server's proof is wrong."""
    if sasl.mechanism is Authentication.OAUTHBEARER:
        more = "".join(f"\x01{name}={value}" for name, value in sasl.extensions.items())
        exchange(f"n,,\x01auth=Bearer {sasl.token()}{more}\x01\x01".encode())
    elif sasl.mechanism is Authentication.PLAIN:
        user, password = sasl.login()
        exchange(f"\0{user}\0{password}".encode())
    else:
        _scram(sasl.login(), _HASHES[sasl.mechanism], exchange)


def _scram(login: Login, algorithm: str, exchange: Exchange) -> None:
    name = login.user.replace("=", "=3D").replace(",", "=2C")
    nonce = secrets.token_hex(16)
    first = f"n={name},r={nonce}"
    challenge = exchange(f"n,,{first}".encode())
    fields = _fields(challenge)
    iterations = int(fields["i"]) if fields.get("i", "").isdigit() else 0
    if not fields.get("r", "").startswith(nonce) or not 0 < iterations <= MAX_ITERATIONS:
        raise NotAuthenticated("SCRAM: the broker's challenge is wrong")
    salt = base64.b64decode(fields.get("s", ""))
    salted = hashlib.pbkdf2_hmac(algorithm, login.password.encode(), salt, iterations)
    final = f"c=biws,r={fields['r']}"
    signed = f"{first},{challenge.decode()},{final}".encode()

    client_key = hmac.digest(salted, b"Client Key", algorithm)
    stored_key = hashlib.new(algorithm, client_key).digest()
    signature = hmac.digest(stored_key, signed, algorithm)
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    answer = exchange(f"{final},p={base64.b64encode(proof).decode()}".encode())

    server_key = hmac.digest(salted, b"Server Key", algorithm)
    expected = base64.b64encode(hmac.digest(server_key, signed, algorithm)).decode()
    if not hmac.compare_digest(_fields(answer).get("v", ""), expected):
        raise NotAuthenticated("SCRAM: the broker does not know the password")


def _fields(message: bytes) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in message.decode().split(","))
    return {name: value for name, _, value in pairs}
