"""An account has a bounded number of keys, however many are created at once."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from threading import Lock
from types import SimpleNamespace
from typing import Any

import pytest

from erasestream.pipeline.gateway.account_page import owner_keys
from erasestream.pipeline.gateway.account_page.owner_keys import OwnerKeys
from erasestream.pipeline.gateway.bounded_calls import BoundedCalls
from erasestream.pipeline.gateway.problems import Problem
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.events.credentials import CredentialKind
from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.credentials.table import CredentialTable
from erasestream.topics.credentials.writer import CredentialWriter
from erasestream.topics.kafka.records import Partition, Record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE, BOB = AccountId("alice"), AccountId("bob")
MOST = 3


class Topic:
    """The lane's keys in memory; gateways read up to what they have applied."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self.tables: list[CredentialTable] = []
        self.is_read = True
        self._lock = Lock()

    def write(self, at: Partition, key: bytes, wire: Wire) -> None:
        """Append a record."""
        with self._lock:
            self._records.append(Record(at, 0, 0, key, wire.headers, wire.value))
            if self.is_read:
                self.apply()

    def apply(self) -> None:
        """Let all gateways read to the end."""
        for table in self.tables:
            for record in self._records:
                table.apply(record)

    def gateway(self, calls: BoundedCalls) -> OwnerKeys:
        """Return the keys at one more gateway."""
        table = CredentialTable()
        self.tables.append(table)
        view: Any = SimpleNamespace(table=table)
        writes: Any = self
        return OwnerKeys(view, CredentialWriter(writes, Lane("web"), now=lambda: NOW), calls)

    def valid(self, account: AccountId) -> int:
        """Return how many keys of an account are valid at the end."""
        table = CredentialTable()
        for record in self._records:
            table.apply(record)
        return sum(each.is_valid(NOW) for each in table.of_account(account))


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[BoundedCalls]:
    monkeypatch.setattr(owner_keys, "MAX_KEYS", MOST)
    with closing(BoundedCalls("keys")) as calls:
        yield calls


async def create(gateways: Sequence[OwnerKeys], account: AccountId = ALICE) -> list[str]:
    """Create a key at each gateway at once; return what became of each."""

    async def one(gateway: OwnerKeys) -> str:
        try:
            await gateway.create(account, CredentialKind.IMAGE, label="", days=None, now=NOW)
        except Problem as error:
            return str(error.code)
        return "created"

    return sorted(await asyncio.gather(*map(one, gateways)))


async def test_creations_at_once_do_not_exceed_the_bound(topic: Topic, calls: BoundedCalls) -> None:
    """Of one account; another has its own."""
    gateway = topic.gateway(calls)
    outcomes = await create([gateway] * (2 * MOST))
    assert outcomes == ["created"] * MOST + ["invalid_options"] * MOST
    assert topic.valid(ALICE) == MOST
    assert await create([gateway], BOB) == ["created"]


async def test_each_further_gateway_exceeds_it_by_one_at_most(
    topic: Topic, calls: BoundedCalls
) -> None:
    one, other = (topic.gateway(calls) for _ in range(2))
    await create([one, other] * (2 * MOST))
    assert MOST <= topic.valid(ALICE) <= MOST + 1


async def test_no_key_is_made_before_the_last_one_is_read(
    topic: Topic, calls: BoundedCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that is behind does not count what it made itself."""
    monkeypatch.setattr(owner_keys, "SHOWN_WITHIN_S", 0)
    topic.is_read = False
    gateway = topic.gateway(calls)
    assert await create([gateway] * 2) == ["created", "unavailable"]
    assert await create([gateway], BOB) == ["created"]
    topic.apply()
    assert await create([gateway]) == ["created"]
