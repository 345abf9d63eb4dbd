"""Hostile uploads in flight, and the judgement of each answer to them.

Offsets are dense and in order: the n-th record of a cut-outs partition answers the n-th upload
of the uploads partition with the same number.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import Message, Producer

from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.events.images import Failure
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.running_pipeline import SHOP
from tests.faults.hostile_answers import complaint_about_cutout, complaint_about_refusal
from tests.faults.hostile_images import Case
from tests.faults.inference_stack import CHILDREN, DEADLINE_S, PARTITIONS
from tests.flow.raw_client import upload_record

WINDOW = 16
"""Uploads in flight."""
ANSWER_S = (WINDOW / CHILDREN + 1) * DEADLINE_S
"""Enough if every upload before it takes the whole of its deadline."""


@dataclass
class Outcome:
    """Counts of answers, and everything that is wrong with them."""

    answers: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    unanswered: int = 0
    slowest_s: float = 0.0
    crashes: int = 0


class _InFlight(NamedTuple):
    case: Case
    sent_s: float

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.sent_s


class Exchange:
    """A window of uploads in flight, spread over all partitions in turn."""

    def __init__(self, stack: Stack) -> None:
        self.outcome = Outcome()
        self.sent = 0
        connection = Connection(cluster=stack.cluster, role=lane_role(SHOP, LaneRole.PRODUCER))
        self._producer = Producer(
            connection.settings(ClientErrorState(), linger_ms=0, message_max_bytes=30_000_000)
        )
        self._in_flight: list[dict[int, _InFlight]] = [{} for _ in range(PARTITIONS)]
        self._next_offsets = [0] * PARTITIONS

    @property
    def in_flight(self) -> int:
        """The number of uploads without an answer."""
        return sum(map(len, self._in_flight))

    @property
    def is_overdue(self) -> bool:
        """Whether an answer did not come in time."""
        return any(one.age_s > ANSWER_S for each in self._in_flight for one in each.values())

    def send(self, case: Case) -> None:
        """Send the next upload."""
        partition = self.sent % PARTITIONS
        record = upload_record(case.data, f"acct-{self.sent}")
        self._producer.produce(
            uploads_of(SHOP),
            record.value,
            partition=partition,
            headers=list(record.headers.items()),
        )
        offset = self._next_offsets[partition]
        self._in_flight[partition][offset] = _InFlight(case, time.monotonic())
        self._next_offsets[partition] += 1
        self.sent += 1

    def poll(self) -> None:
        """Serve the producer's callbacks."""
        self._producer.poll(0)

    def judge(self, message: Message) -> None:
        """Judge one answer."""
        partition, offset = message.partition() or 0, message.offset() or 0
        answered = self._in_flight[partition].pop(offset, None)
        if answered is None:
            text = f"partition {partition}: an additional record at {offset}"
            self.outcome.complaints.append(text)
            return
        self.outcome.slowest_s = max(self.outcome.slowest_s, answered.age_s)
        self.outcome.complaints += self._complaints(answered.case, message)

    def give_up(self) -> None:
        """Count what is in flight as unanswered."""
        self.outcome.unanswered += self.in_flight
        self.outcome.complaints += [
            f"{one.case.name}: no answer" for each in self._in_flight for one in each.values()
        ]

    def _complaints(self, case: Case, message: Message) -> list[str]:
        headers = _headers(message)
        value = bytes(message.value() or b"")
        expected = f"acct-{case.name.partition('/')[2].partition(' ')[0]}"
        found = []
        if headers["ce_account"] != expected:
            found.append(f"{case.name}: the answer of {headers['ce_account']}")
        if headers["ce_type"] == Failure.type:
            code = str(json.loads(value)["code"])
            self.outcome.answers[code] += 1
            complaint = complaint_about_refusal(case, code)
        else:
            self.outcome.answers["cut out"] += 1
            complaint = complaint_about_cutout(case, value)
        return [*found, complaint] if complaint else found


def _headers(message: Message) -> dict[str, str]:
    pairs: list[tuple[str, bytes | None]] = list(message.headers() or [])  # type: ignore[arg-type]
    return {name: (value or b"").decode() for name, value in pairs}
