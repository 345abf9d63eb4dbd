"""Keys of grants leave memory by themselves, and are never too many."""

import gc
import time
import uuid
import weakref

from erasestream.schemas.ids import GrantId
from erasestream.sinks.keys.key_cache import KeyCache
from tests.flow.waiting import eventually
from tests.sinks.retention_harness import ManualClock

KEYS = (bytes(32),)


def new_grant() -> GrantId:
    return GrantId(str(uuid.uuid4()))


def test_keys_leave_without_being_asked_for() -> None:
    """Each at its own time: those that came later do not go with the first."""
    cache = KeyCache(limit_s=0.05, clock=time.monotonic)
    for _ in range(3):
        cache.put(new_grant(), KEYS, time.monotonic())
    eventually("they are gone", lambda: len(cache) == 0)
    cache.put(new_grant(), KEYS, time.monotonic())
    eventually("so are those that came after", lambda: len(cache) == 0)


def test_keys_that_were_asked_for_earlier_leave_earlier() -> None:
    """Their vault was slow: they come after others, and their time is over before."""
    clock = ManualClock()
    cache = KeyCache(limit_s=3600, clock=clock)
    cache.put(new_grant(), KEYS, clock.now)
    cache.put(new_grant(), KEYS, clock.now - 3600)
    eventually("one is gone", lambda: len(cache) == 1)
    clock.now += 3600
    cache.drop_old()
    assert len(cache) == 0


def test_keys_are_valid_for_their_time_only() -> None:
    clock = ManualClock()
    cache = KeyCache(limit_s=5, clock=clock)
    first, second = new_grant(), new_grant()
    cache.put(first, KEYS, clock.now)
    clock.now += 3
    cache.put(second, KEYS, clock.now)
    clock.now += 2
    assert cache.get(first) == ()
    assert cache.get(second) == KEYS
    cache.drop_old()
    assert len(cache) == 1
    cache.evict(second)
    assert cache.get(second) == ()


def test_the_first_leaves_where_there_are_too_many() -> None:
    cache = KeyCache(limit_s=5, clock=ManualClock(), most=2)
    grants = [new_grant() for _ in range(3)]
    for grant in grants:
        cache.put(grant, KEYS, 1_000.0)
    assert [cache.get(grant) for grant in grants] == [(), KEYS, KEYS]


def test_nothing_holds_a_cache_that_is_not_used() -> None:
    cache = KeyCache(limit_s=5, clock=ManualClock())
    cache.put(new_grant(), KEYS, 1_000.0)
    ended = weakref.ref(cache)
    del cache
    gc.collect()
    assert ended() is None
