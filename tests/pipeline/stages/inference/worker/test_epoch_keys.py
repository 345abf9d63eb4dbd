"""Keys of sealed uploads: fetched while others are found, dropped when they die."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from erasestream.pipeline.stages.inference.worker import epoch_keys
from erasestream.pipeline.stages.inference.worker.epoch_keys import EpochKeys
from erasestream.schemas.errors import Code, InvalidInput, NotAuthorized, Unavailable
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.keys.answers import NoKey

SHOP, BULK = Lane("shop"), Lane("bulk")
TIMES = EpochTimes()
START = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
EPOCH = TIMES.number(START)


class Keys:
    """A service with answers by purpose, which the test sets; and the keys of one worker."""

    def __init__(self) -> None:
        self.private = X25519PrivateKey.generate()
        self.answers: dict[str, bytes | NoKey | Exception] = {}
        self.asked: list[tuple[str, int]] = []
        self.threads: set[threading.Thread] = set()
        self.drops = 0
        self.at = START
        self.changes = asyncio.Event()
        self.held = EpochKeys(self, TIMES, now=lambda: self.at)
        self.held.on_change = self.changes.set

    def opening_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        return self._answer(purpose, epoch, timeout_s, self.private.private_bytes_raw())

    def public_key(self, purpose: str, epoch: int, *, timeout_s: float) -> bytes | NoKey:
        return self._answer(purpose, epoch, timeout_s, self.private.public_key().public_bytes_raw())

    def drop_dead(self) -> None:
        self.drops += 1

    def _answer(self, purpose: str, epoch: int, timeout_s: float, key: bytes) -> bytes | NoKey:
        assert timeout_s > 0
        self.asked.append((purpose, epoch))
        self.threads.add(threading.current_thread())
        answer = self.answers.get(purpose, key)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until_known(self, lane: Lane = SHOP, epoch: int = EPOCH) -> None:
        """Wait as a job does: look again at every change."""
        async with asyncio.timeout(30):
            while not self.held.has(lane, epoch):
                self.changes.clear()
                await self.changes.wait()

    def refusal(self, epoch: int = EPOCH) -> Code:
        with pytest.raises(InvalidInput) as caught:
            self.held.get(SHOP, epoch)
        return caught.value.code


@pytest.fixture
async def keys(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keys]:
    """Yield a service with every key."""
    monkeypatch.setattr(epoch_keys, "RETRY_S", 0.01)
    made = Keys()
    yield made
    await made.held.close()


async def test_keys_are_fetched_once_in_another_thread(keys: Keys) -> None:
    assert not keys.held.has(SHOP, EPOCH)
    assert not keys.held.has(SHOP, EPOCH)
    await keys.until_known()
    found = keys.held.get(SHOP, EPOCH)
    assert keys.asked == [("inference.shop", EPOCH), ("results.shop", EPOCH), ("sink", EPOCH)]
    assert threading.current_thread() not in keys.threads
    epochs = [each.epoch for each in found]
    assert [(e.purpose, e.number) for e in epochs] == keys.asked


async def test_an_outage_is_waited_for_and_holds_back_one_lane(keys: Keys) -> None:
    """One lane whose key is refused or unavailable: the other has its keys."""
    for error in (Unavailable(code=Code.KEYS_UNAVAILABLE), NotAuthorized("inference")):
        keys.answers["results.shop"] = error
        assert not keys.held.has(SHOP, EPOCH)
        await keys.until_known(BULK)
        await keys.changes.wait()
        assert not keys.held.has(SHOP, EPOCH)
    keys.answers.clear()
    await keys.until_known()


@pytest.mark.parametrize("purpose", ["inference.shop", "results.shop", "sink"])
async def test_an_epoch_that_had_no_keys_is_unknown(keys: Keys, purpose: str) -> None:
    """Of the present epoch the service may still create them: that is waited for."""
    keys.answers[purpose] = NoKey.UNKNOWN
    await keys.until_known(epoch=EPOCH - 1)
    assert keys.refusal(EPOCH - 1) is Code.UNKNOWN_EPOCH
    assert not keys.held.has(SHOP, EPOCH)
    await keys.changes.wait()
    assert not keys.held.has(SHOP, EPOCH)
    keys.answers.clear()
    await keys.until_known()
    keys.held.get(SHOP, EPOCH)


async def test_a_future_key_is_waited_for(keys: Keys) -> None:
    """The service has another clock."""
    keys.answers["inference.shop"] = NoKey.FUTURE
    assert not keys.held.has(SHOP, EPOCH)
    await keys.changes.wait()
    keys.answers.clear()
    await keys.until_known()


async def test_dead_keys_are_an_answer(keys: Keys) -> None:
    """By the clock of this worker without a question, or by that of the service."""
    assert keys.held.has(SHOP, EPOCH - 24)
    assert keys.held.has(SHOP, 0)
    assert keys.refusal(EPOCH - 24) is Code.EXPIRED
    assert not keys.asked
    keys.answers["inference.shop"] = NoKey.EXPIRED
    await keys.until_known()
    assert keys.refusal() is Code.EXPIRED


async def test_a_key_is_dropped_when_it_dies(keys: Keys) -> None:
    """Without a question, and while the service is unavailable."""
    keys.at = TIMES.dies(EPOCH) - timedelta(milliseconds=100)
    await keys.until_known()
    assert keys.held.get(SHOP, EPOCH)
    keys.answers["inference.shop"] = Unavailable(code=Code.KEYS_UNAVAILABLE)
    keys.at = TIMES.dies(EPOCH)
    async with asyncio.timeout(30):
        while not keys.drops:  # noqa: ASYNC110 (a timer of the loop drops it)
            await asyncio.sleep(0.01)
    assert not keys.held._known
    assert keys.held.has(SHOP, EPOCH)
    assert keys.refusal() is Code.EXPIRED


async def test_a_key_that_dies_while_it_is_waited_for_is_expired(keys: Keys) -> None:
    keys.answers["inference.shop"] = Unavailable(code=Code.KEYS_UNAVAILABLE)
    assert not keys.held.has(SHOP, EPOCH)
    keys.at = TIMES.dies(EPOCH)
    await keys.until_known()
    assert keys.refusal() is Code.EXPIRED
    async with asyncio.timeout(30):
        while not keys.drops:  # noqa: ASYNC110 (the client may have a part of the keys)
            await asyncio.sleep(0.01)


def test_the_latest_epoch_allows_for_the_error_of_clocks() -> None:
    held = EpochKeys(Keys.__new__(Keys), TIMES)
    begins = TIMES.begins(EPOCH)
    assert held.latest_epoch(begins - timedelta(seconds=TIMES.clock_error_s)) == EPOCH
    assert held.latest_epoch(begins - timedelta(seconds=TIMES.clock_error_s + 1)) == EPOCH - 1
