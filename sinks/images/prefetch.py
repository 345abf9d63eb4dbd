"""Fetch in parallel what a list names, in the order of the list, bounded in bytes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

AHEAD = 4
"""Fetched or being fetched, for each thread: one slow answer holds up no other thread."""


class Sized(Protocol):
    """Anything whose size is known before it is fetched."""

    @property
    def size(self) -> int:
        """Bytes."""


S = TypeVar("S", bound=Sized)
T = TypeVar("T")


def prefetched(
    listed: Iterable[S],
    fetch: Callable[[S], T],
    *,
    threads: int,
    max_bytes: int,
    stop: Callable[[], None],
) -> Iterator[tuple[S, T]]:
    """Yield each listed thing with what `fetch` returned; raises what it raised.

    The bytes that are fetched and not yet asked for are at most `max_bytes`; one thing is always
    fetched, however large.  `stop` is called at the end, also if that is early: `fetch` retries no
    longer.
    """
    rest = iter(listed)
    following = next(rest, None)
    ahead: deque[tuple[S, Future[T]]] = deque()
    room_bytes = max_bytes
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    try:
        while ahead or following is not None:
            while (
                following is not None
                and len(ahead) < AHEAD * threads
                and (not ahead or following.size <= room_bytes)
            ):
                ahead.append((following, pool.submit(fetch, following)))
                room_bytes -= following.size
                following = next(rest, None)
            found, fetched = ahead.popleft()
            room_bytes += found.size
            answer = fetched.result()
            del fetched
            yield found, answer
    finally:
        stop()
        pool.shutdown(cancel_futures=True)
