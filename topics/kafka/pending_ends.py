"""A request for end offsets that the caller need not wait for."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import MissingTopic, Unavailable
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.records import Partition

ANSWER_S = 2.0
"""A request without an answer by then has failed."""


_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class PendingEnds:
    """One request.  One thread."""

    def __init__(
        self,
        admin: Admin,
        client: AdminClient,
        answers: Mapping[TopicPartition, "Future[ListOffsetsResultInfo]"],
    ) -> None:
        self._admin = admin
        self._client = client
        self._answers = answers
        self._deadline = Deadline(ANSWER_S, time.monotonic)

    @property
    def is_done(self) -> bool:
        """Whether there is an answer, or will be none."""
        return self.is_answered or self._deadline.has_passed

    @property
    def is_answered(self) -> bool:
        """Whether every leader has answered, perhaps with an error."""
        return all(answer.done() for answer in self._answers.values())

    def wait(self, timeout_s: float) -> None:
        """Wait for the answer."""
        wait(self._answers.values(), timeout_s)

    @classmethod
    def wait_for_first(cls, requests: Iterable["PendingEnds"], timeout_s: float) -> None:
        """Wait until a leader has answered one of these."""
        answers = [answer for each in requests for answer in each._answers.values()]
        wait(answers, timeout_s, return_when=FIRST_COMPLETED)

    def ends(self) -> dict[Partition, int] | None:
        """Return the offsets, or None if a leader has not answered.  Raises `Refused`."""
        if not self.is_answered:
            return None
        found = {}
        for tp, answer in self._answers.items():
            at = Partition(tp.topic, tp.partition)
            try:
                found[at] = int(self._admin.ask(f"offsets of {at}", answer, timeout_s=0).offset)
            except (Unavailable, MissingTopic):
                return None
            if found[at] < 0:
                return None
        return found

    def replace_client(self) -> None:
        """Let the next request be made by another client: see `offset_queries.py`."""
        self._admin.reconnect(self._client)


def begin_log_ends(admin: Admin, partitions: Iterable[Partition]) -> PendingEnds:
    """Ask for the log ends of partitions, in one request, without waiting for the answer."""
    asked = [TopicPartition(*at) for at in partitions]
    with admin.use() as client:
        return PendingEnds(admin, client, client.list_offsets(dict.fromkeys(asked, _LATEST)))
