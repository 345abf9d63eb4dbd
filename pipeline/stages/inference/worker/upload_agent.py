"""The agent: read batches of uploads, make their results ahead, deliver and acknowledge them."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from faust.types import TP

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.pipeline.stages.inference.worker.client_log_filter import ClientLogFilter
from erasestream.pipeline.stages.inference.worker.faust_app import BATCH
from erasestream.pipeline.stages.inference.worker.job_queue import Job
from erasestream.pipeline.stages.inference.worker.lookahead import LookAhead
from erasestream.pipeline.stages.inference.worker.result_builder import ResultBuilder
from erasestream.pipeline.stages.inference.worker.result_sender import ResultSender
from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord, upload_record
from erasestream.schemas.codec.cloudevents import Wire

GATHER_S = 0.05
TOPIC_IDS_RETRY_S = 0.5


class UploadAgent:
    """Turns a stream of uploads into results."""

    def __init__(
        self,
        *,
        app: Any,
        lookahead: LookAhead,
        builder: ResultBuilder,
        sender: ResultSender,
        topic_ids: Callable[[Iterable[str]], dict[str, str]],
        client_log: ClientLogFilter,
    ) -> None:
        """`topic_ids` asks the brokers for the current ids of topics; it may block."""
        self._app = app
        self._lookahead = lookahead
        self._builder = builder
        self._sender = sender
        self._topic_ids = topic_ids
        self._client_log = client_log

    async def process(self, stream: Any) -> None:
        """Process a stream until it ends or this is cancelled.  Failures go to the look-ahead.

        It takes all that the consumer reads: that reads no more of a partition that is full.
        """
        stopping = threading.Event()
        retry = RetryUntilStopped(stopping, retry_s=TOPIC_IDS_RETRY_S)
        try:
            async for events in stream.noack_take(BATCH, within=GATHER_S):
                # Asked after reading: a record of a topic that was created again has the new id.
                topics = {event.message.topic for event in events}
                ids = await asyncio.to_thread(retry.call, partial(self._topic_ids, topics))
                for event in events:
                    self._lookahead.add(self._job(stream, event, ids))
        finally:
            stopping.set()

    def _job(self, stream: Any, event: Any, ids: dict[str, str]) -> Job:
        upload = upload_record(event.message, ids)
        return Job(
            lane=upload.lane,
            partition=TP(event.message.topic, event.message.partition),
            held_bytes=len(upload.value),
            make=partial(self._builder.build, upload),
            deliver=partial(self._deliver, stream, event, upload),
            is_wanted=partial(self._is_wanted, event),
            is_ready=self._builder.readiness_of(upload),
        )

    async def _deliver(self, stream: Any, event: Any, upload: UploadRecord, result: Wire) -> None:
        wire = self._builder.expire(upload, result)
        if not await self._sender.send(upload.lane, upload.position.partition, wire):
            return
        if self._is_wanted(event):
            await stream.ack(event)
        self._client_log.acknowledged()

    def _is_wanted(self, event: Any) -> bool:
        """Return whether the consumer still waits for the event: no rebalance discarded it."""
        return event.message in self._app.consumer.unacked
