"""A router with its loop on a real broker, in this process."""

import contextlib
import threading
from collections.abc import Callable

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.stages.routing.router import Router, topics_of
from erasestream.schemas.errors import Fenced
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.consent.view import ConsentView
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.record_fetcher import RecordFetcher
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.partition_broken import PartitionBroken
from erasestream.topics.kafka.transaction.loop import TransactionalLoop
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture

INSTANCE = "test"


class RunningRouter:
    """A started router of some lanes; `originals_at` is where it reads originals."""

    def __init__(
        self,
        kafka: KafkaFixture,
        *lanes: Lane,
        catalog: Catalog | None = None,
        originals_at: Connection | None = None,
        instance: str = INSTANCE,
    ) -> None:
        connection = kafka.connection(ROUTER)
        catalog = catalog or kafka.catalog()
        only = Catalog.build(
            tuple(map(catalog.lane, lanes)), policy=catalog.policy, durability=catalog.durability
        )
        self._stopping = threading.Event()
        self.findings: list[PartitionBroken] = []
        self.quarantine = QuarantineRegistry(self.findings.append)
        with contextlib.ExitStack() as opened:
            view = ConsentView(
                connection=connection, catalog=only, lanes=lanes, report=lambda *_: None
            )
            opened.callback(view.close)
            originals = RecordFetcher(connection=originals_at or connection)
            opened.callback(originals.close)
            self.router = Router(
                catalog=only,
                view=view,
                originals=originals,
                offsets=OffsetQueries(opened.enter_context(Admin(connection))),
            )
            self.loop = TransactionalLoop(
                connection=connection,
                topics=topics_of(only),
                instance=instance,
                handler=self.router,
                stopping=self._stopping,
                listener=self.quarantine,
            )
            opened.callback(self._close_loop)
            self.loop.start()
            self._opened = opened.pop_all()

    def run_until(self, condition: Callable[[], object]) -> None:
        """Run the loop until the condition is true."""

        def is_true_after_a_round() -> bool:
            self.loop.run_once()
            return bool(condition())

        eventually("the router does it", is_true_after_a_round, poll_s=0)

    def close(self) -> None:
        """Close everything, without waiting for brokers.  Idempotent."""
        self._stopping.set()
        self._opened.close()

    def _close_loop(self) -> None:
        with contextlib.suppress(Fenced):
            self.loop.close()
