"""Answers that no key service gives: the client has an error of its own for them, and no key."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.pipeline.stages.keys.https_server import KeyServer
from erasestream.pipeline.stages.keys.key_answers import Answer
from erasestream.schemas.errors import Unavailable
from erasestream.topics.catalog.retention_budget import PROMISE_S
from erasestream.topics.catalog.roles import KEYS, Role
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.pipeline.stages.keys.key_harness import HOST, TIMES, KeyHarness

KEY = X25519PrivateKey.generate().public_key().public_bytes_raw()
LOW_ORDER = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
WAIT_S = 20.0


@contextmanager
def answering(harness: KeyHarness, answer: dict[str, Any]) -> Iterator[KeyClient]:
    """Yield a client of a service that gives this answer to every request."""
    body = json.dumps(answer, default=lambda raw: b64encode(raw).decode())
    server = KeyServer(
        host=HOST,
        port=0,
        identity=Identity.load(harness.identities, KEYS),
        answer=lambda *_: Answer(200, body),
    )
    identity = Identity.load(harness.identities, Role("inference"))
    try:
        endpoints = [f"https://{HOST}:{server.port}"]
        yield KeyClient(endpoints=endpoints, identity=identity, now=harness.clock)
    finally:
        server.close()


CHANGES: dict[str, dict[str, Any]] = {
    "another purpose": {"purpose": "results.bulk"},
    "no purpose": {"purpose": None},
    "another epoch": {"epoch": 1},
    "no whole epoch": {"epoch": 1.5},
    "no number": {"time": float("nan")},
    "never": {"time": float("inf")},
    "before all time": {"time": -1.0},
    "after all time": {"time": 1e300},
    "a key of zeros": {"key": bytes(32)},
    "a key of low order": {"key": LOW_ORDER},
    "a short key": {"key": KEY[:31]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_wrong_answer_is_no_answer(harness: KeyHarness, change: dict[str, Any]) -> None:
    """Asked with an epoch and without."""
    epoch = TIMES.number(harness.clock())
    right = {"purpose": "results.shop", "epoch": epoch, "key": KEY}
    its = right | {"time": TIMES.dies(epoch).timestamp()} | change
    one = {"purpose": its["purpose"], "epoch": its["epoch"], "key": its["key"]}
    with (
        answering(harness, one | {"dies_s": its["time"]}) as client,
        pytest.raises(Unavailable, match="malformed"),
    ):
        client.public_key("results.shop", epoch, timeout_s=0)
    if change == {"epoch": 1}:  # the service chooses it
        return
    offered = {"epoch": its["epoch"], "public": its["key"], "ends_s": its["time"]}
    with (
        answering(harness, {"purpose": its["purpose"], "keys": [offered]}) as client,
        pytest.raises(Unavailable, match="malformed"),
    ):
        client.sealing_key("results.shop", timeout_s=0)


def test_a_key_is_kept_for_a_day_at_most(harness: KeyHarness) -> None:
    """By the client's own clock, whatever time of death is answered."""
    epoch = TIMES.number(harness.clock())
    answer = {"purpose": "sink", "epoch": epoch, "key": KEY, "dies_s": 9e10}
    with answering(harness, answer) as client:
        assert client.opening_key("sink", epoch, timeout_s=WAIT_S) == KEY
        harness.clock.advance(seconds=PROMISE_S)
        client.drop_dead()
    with pytest.raises(Unavailable):
        client.opening_key("sink", epoch, timeout_s=0)


def test_a_public_key_is_used_for_a_day_at_most(harness: KeyHarness) -> None:
    """By the client's own clock, whatever end of its epoch is answered."""
    offered = {"epoch": TIMES.number(harness.clock()), "public": KEY, "ends_s": 9e10}
    with answering(harness, {"purpose": "results.shop", "keys": [offered]}) as client:
        assert client.sealing_key("results.shop", timeout_s=WAIT_S).public == KEY
    harness.clock.advance(seconds=PROMISE_S)
    with pytest.raises(Unavailable):
        client.sealing_key("results.shop", timeout_s=0)


def test_an_endpoint_whose_host_cannot_be_named_is_unavailable(harness: KeyHarness) -> None:
    """An error of another kind would end the thread that fetches a producer's keys."""
    identity = Identity.load(harness.identities, Role("inference"))
    client = KeyClient(endpoints=["https://keys..internal:9443"], identity=identity)
    with pytest.raises(Unavailable):
        client.sealing_key("sink", timeout_s=0)
