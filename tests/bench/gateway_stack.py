"""The gateway of a stack that is measured: its settings, its address, and a key."""

import http.client
import time

from erasestream.pipeline.bootstrap.credentials import open_credential_writer
from erasestream.pipeline.devstack.kafka.readiness import client_context
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import GATEWAY_HOST
from erasestream.pipeline.settings import load
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.roles import ADMIN
from tests.bench.https_clients import Server
from tests.bench.running_pipeline import SHOP

LIMITLESS = {
    "ERASESTREAM_GATEWAY__RATE_PER_MINUTE": "1000000000",
    "ERASESTREAM_GATEWAY__IMAGES_AT_ONCE": "1000",
    "ERASESTREAM_GATEWAY__MAX_WAITING": "1000",
    "ERASESTREAM_GATEWAY__MAX_MEMORY_BYTES": "2000000000",
}
KNOWN_WITHIN_S, POLL_S = 60.0, 0.2


def server_of(stack: Stack) -> Server:
    """Return the address of a stack's gateway."""
    port = int(stack.gateway_url.rpartition(":")[2])
    return Server(GATEWAY_HOST, port, client_context(stack.files.identities, ADMIN))


def api_key(stack: Stack, lane: Lane = SHOP) -> str:
    """Issue a key for images, and return it once the gateway knows it."""
    with open_credential_writer(load(stack.files.settings), lane) as writer:
        key = writer.create(AccountId("acct"), CredentialKind.IMAGE).text
    deadline = Deadline(KNOWN_WITHIN_S, time.monotonic)
    while not _is_known(server_of(stack), key):
        if deadline.has_passed:
            raise RuntimeError("the gateway does not know the key")
        time.sleep(POLL_S)
    return key


def _is_known(server: Server, key: str) -> bool:
    connection = http.client.HTTPSConnection(server.host, server.port, context=server.context)
    try:
        connection.request("GET", "/v2/account", headers={"x-api-key": key})
        return connection.getresponse().status == http.client.OK
    finally:
        connection.close()
