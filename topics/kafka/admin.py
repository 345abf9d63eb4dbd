"""Requests to the brokers, each with a deadline."""

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Self, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import NotAuthorized, Unavailable
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.kafka.certificate_watcher import CertificateWatcher
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.errors import ClientErrorState, kafka_error, translate
from erasestream.topics.kafka.replaceable_client import ReplaceableClient

T = TypeVar("T")

REQUEST_TIMEOUT_S = 20.0
"""Longest wait for a broker's answer."""
GROUP_TIMEOUT_S = 5.0
"""Longest wait for a group's coordinator; the next client may be answered at once."""
SLICE_S = 0.5
"""Interval at which a waiting caller serves the client's error callback."""


class Admin:
    """Requests as one role; failures are raised as `translate` names them.  Thread-safe.

    Close it, or use it as a context manager.
    """

    def __init__(self, connection: Connection, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.connection = connection
        self.timeout_s = timeout_s
        self._errors = ClientErrorState()
        self._certificate = CertificateWatcher(connection.identity)
        self._clients = ReplaceableClient(self._open, _close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; requests that other threads wait for are answered first."""
        self._clients.close()

    @contextmanager
    def use(self) -> Iterator[AdminClient]:
        """Lend the client, of the current certificate, for requests that `ask` waits for."""
        if self._certificate.is_due():
            with self._clients.use() as old:
                self._clients.replace(old)
        with self._clients.use() as client:
            yield client

    def _open(self) -> AdminClient:
        # Connected to all brokers: otherwise a request to an unavailable one keeps two cores busy
        # until it is answered.  librdkafka reconnects at once whenever it was refused (2.16).
        settings = self.connection.settings(self._errors, enable_sparse_connections=False)
        return AdminClient(settings)

    def reconnect(self, client: AdminClient) -> None:
        """Replace this client, unless another thread has replaced it already."""
        self._clients.replace(client)

    def ask(self, context: str, answer: Future[T], *, timeout_s: float | None = None) -> T:
        """Return the brokers' answer, or raise their error as `translate` names it."""
        deadline = Deadline(self.timeout_s if timeout_s is None else timeout_s, time.monotonic)
        with self._translating(context):
            while True:
                try:
                    return answer.result(deadline.slice_s(SLICE_S))
                except TimeoutError:
                    self._serve()  # reports the error, long before the deadline
                    if deadline.has_passed:
                        raise

    @contextmanager
    def _translating(self, context: str) -> Iterator[None]:
        try:
            yield
        except (KafkaException, TimeoutError) as exception:
            error = kafka_error(exception) if isinstance(exception, KafkaException) else None
            if error is not None and error.code() not in (
                KafkaError._TIMED_OUT,
                KafkaError._TRANSPORT,
            ):
                raise translate(error, context) from exception
            self._serve()  # the error callback knows the reason
            raise self._errors.explain(f"{context}: no answer") from exception
        self._errors.recovered()

    def _serve(self) -> None:
        with self._clients.use() as client:
            client.poll(0)

    def partition_counts(self) -> dict[str, int]:
        """Return the topics that this role can see, and how many partitions each has."""
        with self.use() as client, self._translating("topics"):
            topics = client.list_topics(timeout=self.timeout_s).topics
        return {name: len(topic.partitions) for name, topic in topics.items()}

    def broker_ids(self) -> frozenset[int]:
        """Return the ids of the brokers in service."""
        with self.use() as client, self._translating("brokers"):
            return frozenset(client.list_topics(timeout=self.timeout_s).brokers)

    def has_members(self, group: str) -> bool:
        """Return whether the group has members, or had until shortly.

        Seen with librdkafka 2.16: a broker that has just started does not answer this request,
        nor the next on the same client.  So after a failure a new client asks.
        """
        with self.use() as client:
            futures = client.describe_consumer_groups([group], request_timeout=GROUP_TIMEOUT_S)
            try:
                # The client gives up first, so that no request is open when it is replaced.
                answer = self.ask(f"group {group}", futures[group], timeout_s=2 * GROUP_TIMEOUT_S)
                return bool(answer.members)
            except Unavailable:
                self.reconnect(client)
                raise

    def check_rights(self, needed: Mapping[str, Iterable[Operation]]) -> dict[str, int]:
        """Return the partition counts of these topics, if the role may do this to them.

        Raises `Refused` naming role, topic and operation; `Unavailable` if the brokers do not
        answer.
        """
        role, counts = self.connection.role, {}
        with self.use() as client:
            futures = client.describe_topics(
                TopicCollection(list(needed)),
                include_authorized_operations=True,
                request_timeout=self.timeout_s,
            )
            for name, operations in needed.items():
                topic = self.ask(f"role {role}, topic {name}", futures[name])
                allowed = {AclOperation(o).name.lower() for o in topic.authorized_operations or ()}
                if missing := set(operations) - allowed:
                    words = ", ".join(sorted(missing))
                    raise NotAuthorized(f"role {role} may not {words} topic {name}")
                counts[name] = len(topic.partitions)
        return counts


def _close(client: AdminClient) -> None:
    """Close the client: as of 2.15 the library does so only at the end of a `with` block."""
    with client:
        pass
