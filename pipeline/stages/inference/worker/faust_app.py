"""The inference stage on Faust, in the one form that was measured to be safe.

*Every offset of `uploads.L` yields exactly one record of `cutouts.L`, in order, in the
partition of the same number.*  A replay after a crash repeats records; it never skips one
and never leaves a gap.  What that takes, measured on faust-streaming 0.15 and aiokafka 0.14
(0 lost under exceptions, rejected sends, kill -9 and rebalances):

* at_least_once, no tables, one agent with concurrency 1 that acknowledges each event itself,
  when its result is.
* Every send is awaited until it is acknowledged, and per partition the next record is handed
  over only then: sends issued together can leave a gap.  Partitions run in parallel, and all
  look ahead (`lookahead.py`).
* An unexpected exception ends the process at once, before Faust can acknowledge anything.
* The producer is idempotent, which Faust leaves off outside transactions.
* What was begun is forgotten in a rebalance, all of it (`stage_group.py`): an event is acknowledged
  only if the consumer still waits for it, so never one before which another was forgotten.
* No leader topic, no declaration of topics, no web server; buffers of two batches.

Why Faust's own exactly-once mode is not used: docs/decisions.
"""

import asyncio
import logging
import os
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import faust
from aiokafka.errors import KafkaError, KafkaTimeoutError

from erasestream.pipeline.runtime.runner import EX_SOFTWARE, RETRY_S, status_of
from erasestream.pipeline.stages.inference.worker import record_parser
from erasestream.pipeline.stages.inference.worker.client_log_filter import ClientLogFilter
from erasestream.pipeline.stages.inference.worker.group_transport import (
    ConstantAssignor,
    GroupTransport,
)
from erasestream.pipeline.stages.inference.worker.lookahead import LookAhead, Work
from erasestream.pipeline.stages.inference.worker.result_builder import ResultBuilder, Source
from erasestream.schemas.codec.cloudevents import Wire
from erasestream.schemas.errors import ErasestreamError, InvariantBroken, Unavailable
from erasestream.schemas.events.base import Position
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.roles import INFERENCE
from erasestream.topics.catalog.topic_names import cutouts_of, lane_of, uploads_of

log = logging.getLogger(__name__)

BATCH = 16
"""Uploads that are read at once."""
FETCH_BYTES = 4_000_000
GATHER_S = 0.05
METADATA_MS = 10_000
"""How often a worker looks who leads what."""
LOG_APPEND_TIME = 1
RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}


class InferenceStage:
    """One worker of the group that shares the uploads of some lanes."""

    def __init__(
        self,
        *,
        bootstrap_servers: Sequence[str],
        tls: ssl.SSLContext,
        lanes: Sequence[Lane],
        maker: ResultBuilder,
        children: int,
        topic_ids: Callable[[Iterable[str]], dict[str, str]],
        max_record_bytes: int,
        member: str | None = None,
        start: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """`children`: as many uploads are worked on at once.

        `topic_ids` asks the brokers for the ids that topics have now; it may block.

        `member`: the name that the group knows this worker by for ever; without one it is a new
        member each time, and its partitions wait until the old one's session has ended.
        `start` and `close` bring up and end what the maker needs.
        """
        self._maker = maker
        self._topic_ids = topic_ids
        self._start = start
        self._close = close
        self._trouble = ClientLogFilter()
        self._ahead = LookAhead(on_failure=end_at_once, children=children)
        self.count = 0
        self._is_assigned = False
        self._has_started = False
        self.app = _app(
            bootstrap_servers, tls, max_record_bytes, member, self._ahead.give_up_unwanted
        )
        self._cutouts = {
            lane: self.app.topic(cutouts_of(lane), **RAW, internal=False) for lane in lanes
        }
        uploads = self.app.topic(*(uploads_of(lane) for lane in lanes), **RAW)
        self.app.agent(uploads, concurrency=1, name="infer")(self._infer)
        self.app.on_partitions_assigned.connect(self._on_assigned, weak=False)

    def run(self) -> None:
        """Work until SIGTERM.  Exits the process."""
        worker = faust.Worker(
            self.app, loglevel="WARNING", redirect_stdouts=False, override_logging=False, quiet=True
        )
        worker.spinner = None  # it writes to the terminal, in the midst of our log lines
        self._trouble.take_over()
        worker.execute_from_commandline()

    @property
    def is_ready(self) -> bool:
        """Whether the children have started and the group gave it its partitions."""
        return self._is_assigned and self._has_started

    @property
    def is_at_work(self) -> bool:
        """Whether, besides, no partitions are being given out at this moment."""
        return self.is_ready and not self.app.rebalancing

    def _say_if_ready(self) -> None:
        if self.is_ready:
            log.info("ready", extra={"stage": "infer"})

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        self._is_assigned = True
        self._say_if_ready()

    async def _infer(self, stream: Any) -> None:
        try:
            await self._start()
            self._has_started = True
            self._say_if_ready()
            async for events in stream.noack_take(BATCH, within=GATHER_S):
                await self._begin(stream, events)
        except asyncio.CancelledError:
            await self._close()
            raise
        except BaseException as error:  # noqa: BLE001 - the process ends
            end_at_once(error)

    async def _begin(self, stream: Any, events: list[Any]) -> None:
        # Asked after reading: a record of topics made anew can not carry the old id.
        ids = await self._ids({event.message.topic for event in events})
        for event in events:
            source = _source(event.message, ids)
            await self._ahead.add(
                Work(
                    order=event.message.tp,
                    held_bytes=len(source.value),
                    make=partial(self._maker.make, source),
                    hand_over=partial(self._hand_over, stream, event, source),
                    is_wanted=partial(self._is_wanted, event),
                )
            )

    async def _ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The ids that topics have now; brokers that do not answer are waited for."""
        said = False
        while True:
            try:
                return await asyncio.to_thread(self._topic_ids, topics)
            except Unavailable as error:
                if not said:
                    log.warning("waiting", extra={"code": error.code, "reason": error.detail})
                said = True
                await asyncio.sleep(RETRY_S)

    async def _hand_over(self, stream: Any, event: Any, source: Source, made: Wire) -> None:
        wire = self._maker.judged(source, made)
        try:
            sent = await self._cutouts[source.lane].send(
                value=wire.value, partition=source.position.partition, headers=wire.headers
            )
            await sent
        except KafkaError as error:
            if self.app.should_stop:
                return  # the client is closed, and the upload is read again
            raise _translated(error) from error
        if self._is_wanted(event):
            await stream.ack(event)
        self.count += 1
        self._trouble.settled()

    def _is_wanted(self, event: Any) -> bool:
        return event.message in self.app.consumer.unacked


def _translated(error: Exception) -> Exception:
    """What a send that failed means: brokers that are away, or something nobody foresaw.

    Either ends the process: whether the record was appended after all, nobody knows, and only
    a producer made anew may send it again in its order.
    """
    if isinstance(error, KafkaTimeoutError) or getattr(error, "retriable", False):
        return Unavailable(f"sending a result: {type(error).__name__}")
    return error


def _source(message: Any, topic_ids: dict[str, str]) -> Source:
    if message.timestamp_type != LOG_APPEND_TIME:
        raise InvariantBroken(f"{message.topic} does not stamp with the broker's clock")
    return Source(
        lane=lane_of(message.topic),
        position=Position(
            topic_id=topic_ids[message.topic],
            partition=message.partition,
            offset=message.offset,
        ),
        appended_ms=round(message.timestamp * 1000),
        headers=[(name, value or b"") for name, value in message.headers or ()],
        value=message.value or b"",
    )


def _app(
    bootstrap_servers: Sequence[str],
    tls: ssl.SSLContext,
    max_record_bytes: int,
    member: str | None,
    on_forgotten: Callable[[], None],
) -> faust.App:
    record_parser.install()
    app = faust.App(
        INFERENCE,
        broker=[f"kafka://{server}" for server in bootstrap_servers],
        broker_credentials=faust.SSLCredentials(context=tls),
        processing_guarantee="at_least_once",
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / "erasestream-inference",  # stays empty: no tables
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=member,
        # Per partition, and aiokafka holds one answer of each; a larger record comes all the same.
        consumer_max_fetch_size=FETCH_BYTES,
        broker_max_poll_records=BATCH,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        # Shorter than a request: else the first to join asks again before it is answered.
        broker_rebalance_timeout=25.0,
        broker_commit_interval=1.0,
        broker_request_timeout=30.0,
        producer_request_timeout=30.0,
        producer_max_request_size=max_record_bytes,
        # aiokafka asks for a partition's position where it believes its leader to be.  If that has
        # moved it asks there again, and again, and only the next look at the cluster ends that;
        # by default that comes after five minutes.
        consumer_metadata_max_age_ms=METADATA_MS,
        producer_metadata_max_age_ms=METADATA_MS,
        stream_buffer_maxsize=2 * BATCH,
        stream_wait_empty=True,
        stream_recovery_delay=0.0,
        PartitionAssignor=ConstantAssignor,
        canonical_url="http://worker",  # nobody asks it anything, so where it runs does not matter
    )
    transport = GroupTransport(app.conf.broker_producer, app, on_forgotten=on_forgotten)
    if not transport.Producer(transport)._settings_extra()["enable_idempotence"]:
        raise InvariantBroken("the producer of inference is not idempotent")
    app.transport = app.producer_transport = transport
    return app


def end_at_once(error: BaseException) -> None:
    """End before Faust acknowledges what was not done; children end with this process."""
    said = {"stage": "infer"}
    status = EX_SOFTWARE
    if isinstance(error, ErasestreamError):
        said |= {"code": error.code, "reason": error.sentence}
        status = status_of(error)
    log.error("ended", extra=said, exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
