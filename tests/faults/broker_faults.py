"""Kill and suspend brokers, and bring them back.

Rules:

* At most one broker is down at a time.
* After a broker returns, the next may be broken once `SETTLED_S` have passed and every
  partition of every topic has all its replicas in sync.
* A broker that ended by itself is reported, and started again.
"""

import time
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Refused
from erasestream.topics.kafka.errors import ClientErrorState
from tests.faults.fault_plan import BROKERS
from tests.faults.stage_exits import StageExit

T = TypeVar("T")

SUSPENDED_S = 15.0
DOWN_S = 1.0
SETTLED_S = 30.0
"""The least time from the return of one broker to the next fault of a broker.  Its answers about
replicas may be outdated at first, and after that there must be traffic for a fault to hit."""


class BrokerFaults:
    """Faults of the brokers of one stack."""

    def __init__(self, stack: Stack) -> None:
        self.exits: list[StageExit] = []
        """Brokers that ended without being killed."""
        self._stack = stack
        self._down: dict[int, Deadline] = {}
        self._suspended: dict[int, Deadline] = {}
        self._settling = _deadline(0.0)
        self._admin: AdminClient | None = None

    def kill(self, index: int) -> None:
        """Send SIGKILL; the broker restarts after `DOWN_S`."""
        self._stack.brokers[index].kill()
        self._down[index] = _deadline(DOWN_S)

    def suspend(self, index: int) -> None:
        """Send SIGSTOP; the broker resumes after `SUSPENDED_S`."""
        self._stack.brokers[index].pause()
        self._suspended[index] = _deadline(SUSPENDED_S)

    def recover(self, *, at_once: bool) -> None:
        """Bring back the brokers that are due, or all `at_once`; restart any that ended."""
        for index in due(self._suspended, at_once=at_once):
            self._stack.brokers[index].resume()
            self._settling = _deadline(SETTLED_S)
        for index in due(self._down, at_once=at_once):
            self._stack.brokers[index].launch()
            self._settling = _deadline(SETTLED_S)
        for index, broker in enumerate(self._stack.brokers):
            if broker.process_id is None and index not in self._down:
                self.exits.append(StageExit(f"broker {index}", None, ""))
                self._down[index] = _deadline(DOWN_S)

    def resume_all(self) -> None:
        """Send SIGCONT to every broker, so that it can be stopped."""
        for broker in self._stack.brokers:
            broker.resume()

    def may_break_one(self) -> bool:
        """Return whether all brokers are up and have settled, and all replicas are in sync."""
        return self._settling.has_passed and self._are_in_sync()

    def are_back(self) -> bool:
        """Return whether each broker serves clients, and all replicas are in sync.

        A broker that serves clients has registered again, so replicas that it left are known.
        """
        try:
            are_ready = not self._down and all(each.is_ready() for each in self._stack.brokers)
        except Refused:
            return False  # one has ended
        return are_ready and self._are_in_sync()

    def _are_in_sync(self) -> bool:
        if self._down or self._suspended:
            return False
        if self._admin is None:
            self._admin = AdminClient(self._stack.admin().settings(ClientErrorState()))
        try:
            topics = self._admin.list_topics(timeout=3).topics.values()
        except KafkaException:
            return False
        partitions = [each for topic in topics for each in topic.partitions.values()]
        return all(len(p.isrs) == len(p.replicas) == BROKERS for p in partitions)


def due(deadlines: dict[T, Deadline], *, at_once: bool) -> list[T]:
    """Remove and return the keys whose deadline has passed, or all of them `at_once`."""
    found = [key for key, deadline in deadlines.items() if at_once or deadline.has_passed]
    for key in found:
        del deadlines[key]
    return found


def _deadline(seconds: float) -> Deadline:
    return Deadline(seconds, time.monotonic)
