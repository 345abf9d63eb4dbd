"""A role's way to the cluster: client settings, and questions each with a deadline."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
    Uuid,
)
from confluent_kafka.admin import AclOperation, AdminClient, OffsetSpec

from erasestream.schemas.errors import MissingTopic, NotAuthorized, Unavailable
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.errors import ClientErrorState, is_fatal, kafka_error, translate
from erasestream.topics.kafka.group_offsets import Committed, committed
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.tls import Identity

__all__ = [
    "Admin",
    "Cluster",
    "Connection",
    "ClientErrorState",
    "is_fatal",
    "kafka_error",
    "translate",
    "written_id",
]

Settings = dict[str, Any]
T = TypeVar("T")

REQUEST_TIMEOUT_S = 20.0
"""Longest wait for one answer of a broker."""
GROUP_TIMEOUT_S = 5.0
"""Longest wait for what a group's coordinator says; the next client may get an answer at once."""
SLICE_S = 0.5
"""How often somebody who waits for an answer looks whether there is trouble."""
_NONE = -1
"""What brokers answer if no record is as young as asked for."""


def written_id(topic_id: Uuid) -> str:
    """A topic's id as Kafka writes it: URL-safe, where librdkafka has `+` and `/`."""
    return str(topic_id).replace("+", "-").replace("/", "_")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the brokers are, and the folder with the identities (`tls.py`)."""

    bootstrap_servers: tuple[str, ...]
    identities: Path


class Connection:
    """One role's way to one cluster."""

    def __init__(self, *, cluster: Cluster, role: Role) -> None:
        self.cluster = cluster
        self.role = role
        self.identity = Identity.load(cluster.identities, role)

    def settings(self, watch: ClientErrorState, **more: object) -> Settings:
        """Settings of librdkafka for a client of this role; `more` with `_` for `.`."""
        return {
            **self.identity.client_settings(),
            "bootstrap.servers": ",".join(self.cluster.bootstrap_servers),
            "client.id": self.role,
            "error_cb": watch,
            "log_level": 0,  # what matters comes through error_cb, once
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 2000,
            # A broker that accepts and stays silent is given up for another sooner than in 30 s.
            "socket.connection.setup.timeout.ms": 10_000,
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def admin(self, *, timeout_s: float = REQUEST_TIMEOUT_S) -> "Admin":
        """Questions to the brokers, as this role, each answered within this time."""
        return Admin(self, timeout_s=timeout_s)


class Admin:
    """Questions to the brokers, each with a deadline and answered or raised in our words."""

    def __init__(self, connection: Connection, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.role = connection.role
        self._timeout_s = timeout_s
        self._watch = ClientErrorState()
        # Connected to all brokers: else a question to one that is away keeps two cores busy until
        # it is answered.  librdkafka connects again at once whenever it was refused (2.16).
        self._settings = connection.settings(self._watch, enable_sparse_connections=False)
        self._renewal = CertificateWatcher(connection.identity)
        self.client = AdminClient(self._settings)

    def reconnect(self, client: AdminClient) -> None:
        """Ask through another client than this; other threads may have seen to that already."""
        if self.client is client:
            self.client = AdminClient(self._settings)

    def ask(self, context: str, answer: Future[T], *, timeout_s: float | None = None) -> T:
        """What the brokers answer.  Raises what `translate` says of their error."""
        end = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        with self._answering(context):
            while True:
                try:
                    return answer.result(max(0.0, min(SLICE_S, end - time.monotonic())))
                except TimeoutError:
                    self.client.poll(0)  # says what the trouble is, long before the deadline
                    if time.monotonic() >= end:
                        raise

    def renew(self) -> None:
        """Before the questions that are asked again and again, for as long as a stage lives."""
        if self._renewal.is_due():
            self.client = AdminClient(self._settings)

    def partition_counts(self) -> dict[str, int]:
        """The topics that this role can see, and how many partitions each has."""
        with self._answering("topics"):
            topics = self.client.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        return {name: len(topic.partitions) for name, topic in topics.items()}

    @contextmanager
    def _answering(self, context: str) -> Iterator[None]:
        try:
            yield
        except (KafkaException, TimeoutError) as exception:
            error = kafka_error(exception) if isinstance(exception, KafkaException) else None
            if error is not None and error.code() not in (
                KafkaError._TIMED_OUT,
                KafkaError._TRANSPORT,
            ):
                raise translate(error, context) from exception
            self.client.poll(0)  # serves the error callback, which knows why
            raise self._watch.explain(f"{context}: no answer") from exception
        self._watch.settled()

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """The id that each topic has now, in the form that Kafka prints."""
        self.renew()
        client = self.client  # the same to the end, whatever other threads do
        futures = client.describe_topics(
            TopicCollection(list(names)), request_timeout=self._timeout_s
        )
        try:
            return {
                name: written_id(self.ask(f"topic {name}", future).topic_id)
                for name, future in futures.items()
            }
        except Unavailable:
            self.reconnect(client)  # see `offsets`
            raise

    def log_start(self, at: Partition) -> int:
        """The first offset of a partition that is still there."""
        return self._offset(at, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def log_starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The first offset of each that is still there, asked in one question."""
        asked = [TopicPartition(*at) for at in partitions]
        return self.offsets(asked, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def first_after(self, at: Partition, moment_ms: int) -> int:
        """The offset of the first record appended after this; of the next one if there is none."""
        spec: OffsetSpec = OffsetSpec.for_timestamp(moment_ms + 1)
        found = self.offsets([TopicPartition(*at)], spec, least=_NONE)[at]
        return self.log_end(at) if found == _NONE else found

    def log_end(self, at: Partition) -> int:
        """The offset behind the last record of a partition, committed or not."""
        return self._offset(at, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _offset(self, at: Partition, spec: OffsetSpec) -> int:
        return self.offsets([TopicPartition(at.topic, at.number)], spec)[at]

    def offsets(
        self,
        partitions: Sequence[TopicPartition],
        spec: OffsetSpec,
        *,
        timeout_s: float | None = None,
        least: int = 0,
    ) -> dict[Partition, int]:
        """The offsets that this means, each of them known, in one question and one timeout.

        Seen with librdkafka 2.16: a leader that is lost while it is asked gives -1001 and no
        error, and once it is back the client goes on asking with the epoch of before, for
        ever.  So after a failure the next question is asked by a new client.
        """
        self.renew()
        wait_s, asked = timeout_s or self._timeout_s, dict.fromkeys(partitions, spec)
        client = self.client
        try:
            return self._offsets(client, asked, wait_s, least)
        except Unavailable:
            self.reconnect(client)
            raise
        except MissingTopic:
            # It judges by what it knew of the topic; partitions may have been added since.
            self.reconnect(client)
            return self._offsets(self.client, asked, wait_s, least)

    def _offsets(
        self,
        client: AdminClient,
        asked: dict[TopicPartition, OffsetSpec],
        wait_s: float,
        least: int,
    ) -> dict[Partition, int]:
        found = {}
        end = time.monotonic() + wait_s
        for tp, future in client.list_offsets(asked).items():
            at = Partition(tp.topic, tp.partition)
            left_s = max(0.0, end - time.monotonic())
            found[at] = int(self.ask(f"offsets of {at}", future, timeout_s=left_s).offset)
            if found[at] < least:
                raise Unavailable(f"offsets of {at}: no answer")
        return found

    def commit_for(self, group: str, at: Partition, offset: int, *, metadata: str) -> None:
        """Commit an offset for a group none of whose members is there.

        Raises `Refused` if members are.  (The admin client's own call for this drops the
        metadata, seen with librdkafka 2.16.)
        """
        settings = self._settings | {"group.id": group, "enable.auto.commit": False}
        consumer = Consumer(settings)
        try:
            with self._answering(f"offset of {at} for group {group}"):
                tp = TopicPartition(at.topic, at.number, offset, metadata=metadata)
                (answer,) = consumer.commit(offsets=[tp], asynchronous=False)
            if answer.error is not None:
                raise translate(answer.error, f"offset of {at} for group {group}")
        finally:
            consumer.close()

    def has_members(self, group: str) -> bool:
        """Whether anybody is, or was until shortly, a member of the group.

        Seen with librdkafka 2.16: asked of a broker that has just started, the question is not
        answered, and neither is the next.  So after a failure a new client asks.
        """
        client = self.client
        futures = client.describe_consumer_groups([group], request_timeout=GROUP_TIMEOUT_S)
        try:
            # The client gives up first, so that no question is open when it is replaced.
            answer = self.ask(f"group {group}", futures[group], timeout_s=2 * GROUP_TIMEOUT_S)
            return bool(answer.members)
        except Unavailable:
            self.reconnect(client)
            raise

    def committed(self, group: str, partitions: Iterable[Partition]) -> dict[Partition, Committed]:
        """What a group has committed; see `group_offsets.py`.  Raises `Unavailable`, `Refused`."""
        return committed(
            group,
            partitions,
            settings=self._settings,
            watch=self._watch,
            context=f"role {self.role}, group {group}",
            timeout_s=self._timeout_s,
        )

    def check_group(self, group: str, at: Partition) -> None:
        """Make sure that this role may see the group, and so its offset of this partition.

        Whether it may also be a member it learns when it joins.
        Raises `Refused` naming role and group, or `Unavailable`.
        """
        self.committed(group, [at])

    def check_rights(self, needed: Mapping[str, Iterable[Operation]]) -> dict[str, int]:
        """Make sure that the topics exist and this role may do this to them.

        Returns the number of partitions of each.  Raises `Refused` naming role, topic and
        operation; `Unavailable` if the brokers do not answer.
        """
        futures = self.client.describe_topics(
            TopicCollection(list(needed)),
            include_authorized_operations=True,
            request_timeout=self._timeout_s,
        )
        counts = {}
        for name, operations in needed.items():
            topic = self.ask(f"role {self.role}, topic {name}", futures[name])
            allowed = {AclOperation(o).name.lower() for o in topic.authorized_operations or ()}
            if missing := set(operations) - allowed:
                words = ", ".join(sorted(missing))
                raise NotAuthorized(f"role {self.role} may not {words} topic {name}")
            counts[name] = len(topic.partitions)
        return counts
