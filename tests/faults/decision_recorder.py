"""Call the consent writers during a storm, and record every call and its outcome."""

import contextlib
import itertools
import math
import threading
import time
from collections import defaultdict
from collections.abc import Mapping

from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.events.consent import Channel, Decision
from erasestream.schemas.ids import Lane
from erasestream.topics.consent.writer import ConsentWriter
from tests.faults.binding_windows import NEVER, Account, WriterCall

Writers = tuple[ConsentWriter, ConsentWriter]


class DecisionRecorder:
    """Two writers per lane, and all calls to them.  Thread-safe."""

    def __init__(self, writers: Mapping[Lane, Writers]) -> None:
        self.calls: dict[Account, list[WriterCall]] = defaultdict(list)
        """The calls for each account, in the order in which they began."""
        self._writers = writers
        self._actors = (f"owner-{number}" for number in itertools.count())
        self._lock = threading.Lock()

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes that have writers."""
        return tuple(self._writers)

    @property
    def count(self) -> int:
        """The number of decisions that were recorded."""
        return sum(call.decision_id is not None for call in self._all())

    @property
    def confirmed(self) -> int:
        """The number of revocations that were confirmed."""
        return sum(call.confirmed_ms < NEVER for call in self._all())

    def _all(self) -> list[WriterCall]:
        with self._lock:
            return list(itertools.chain.from_iterable(self.calls.values()))

    def decide(
        self, account: Account, writer: int, decision: Decision, *, confirm_s: float = 0.0
    ) -> bool:
        """Return whether the decision was recorded; if not, its outcome is unknown.

        `confirm_s`: how long to wait for the confirmation of a recorded revocation.
        """
        lane, name = account
        used = self._writers[Lane(lane)][writer]
        decide = used.grant if decision is Decision.GRANTED else used.revoke
        begun_ms = math.floor(time.time() * 1000)
        with self._lock:
            call = WriterCall(next(self._actors), writer, decision is Decision.GRANTED, begun_ms)
            calls = self.calls[account]
            index = len(calls)
            calls.append(call)
        try:
            recorded = decide(name, actor=call.actor, channel=Channel.LIBRARY)
        except ErasestreamError:
            calls[index] = call._replace(returned_ms=_now_ms(), is_given_up=True)
            return False
        call = call._replace(returned_ms=_now_ms(), decision_id=recorded.decision_id)
        calls[index] = call
        if decision is Decision.REVOKED and confirm_s:
            with contextlib.suppress(ErasestreamError):
                used.await_confirmed(name, recorded, timeout_s=confirm_s)
                calls[index] = call._replace(confirmed_ms=_now_ms())
        return True


def _now_ms() -> int:
    """Return the first millisecond that is certainly not before now."""
    return math.ceil(time.time() * 1000)
