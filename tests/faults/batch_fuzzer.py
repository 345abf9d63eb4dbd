"""Sends forged batches with a lane's certificates to the topics that they can write."""

import random
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.ledger import DecisionEntry
from erasestream.schemas.ids import AccountId, Lane, new_upload_id
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import consent_of, uploads_of
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.kafka.partitioner import partition_of
from tests.faults.forged_batches import TARGETS, Sample, Target, forged_batch
from tests.flow.pictures import photo
from tests.flow.raw_client import upload_record
from tests.raw_kafka import NO_ERROR, RawKafka

ACCOUNTS = [AccountId(f"fuzz-{number}") for number in range(50)]
CONSENT_PARTITIONS = 4
IN_WRONG_PARTITION = 0.2


class ForgedBatch(NamedTuple):
    """A batch, and where it goes."""

    role: LaneRole
    topic: str
    partition: int
    data: bytes


class BatchFuzzer:
    """One hostile lane."""

    def __init__(self, cluster: Cluster, lane: Lane, partitions: int, dice: random.Random) -> None:
        """`partitions` of the lane's uploads."""
        self._lane, self._partitions, self._dice = lane, partitions, dice
        self._clients = {role: RawKafka(cluster, lane_role(lane, role)) for role in LaneRole}
        self.errors: Counter[str] = Counter()
        """Answers of the brokers by topic and error."""
        self.accepted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as closing:
            for client in self._clients.values():
                closing.callback(client.close)

    def draw(self) -> ForgedBatch:
        """Return a new batch."""
        target = self._dice.choice(TARGETS)
        sample = self._sample(target)
        return ForgedBatch(
            role=target.role,
            topic=target.topic_of(self._lane),
            partition=self._partition(sample),
            data=forged_batch(self._dice, sample),
        )

    def send(self, forged: ForgedBatch) -> None:
        """Send a batch."""
        client = self._clients[forged.role]
        try:
            produced = client.produce(forged.topic, forged.partition, forged.data)
        except ConnectionError:
            self.errors[f"{forged.topic}: closed"] += 1
            return
        self.errors[f"{forged.topic}: {produced.error}"] += 1
        self.accepted += produced.error == NO_ERROR

    def _partition(self, sample: Sample) -> int:
        """Return any partition of uploads; mostly the right one for an account."""
        if sample.key is None:
            return self._dice.randrange(self._partitions)
        if self._dice.random() < IN_WRONG_PARTITION:
            return self._dice.randrange(CONSENT_PARTITIONS)
        return partition_of(sample.key, CONSENT_PARTITIONS)

    def _sample(self, target: Target) -> Sample:
        account = self._dice.choice(ACCOUNTS)
        if target.topic_of is uploads_of:
            upload = upload_record(photo(), account)
            return Sample(value=upload.value, headers=list(upload.headers.items()))
        now = datetime.now(UTC)
        decided = {
            "id": new_upload_id(int(now.timestamp() * 1000), self._dice.randbytes(10)),
            "time": now,
            "account": account,
            "decision": self._dice.choice(tuple(Decision)),
            "actor": "fuzz",
            "channel": Channel.LIBRARY,
        }
        if target.topic_of is consent_of:
            wire = to_wire(ConsentDecision(**decided), source="/fuzz")
            return Sample(value=wire.value, headers=wire.headers, key=account.encode())
        wire = to_wire(DecisionEntry(lane=self._lane, **decided), source="/fuzz")
        key = f"{self._lane}/{account}".encode()
        return Sample(value=wire.value, headers=wire.headers, key=key)
