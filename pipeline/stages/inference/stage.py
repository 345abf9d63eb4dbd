"""The inference stage: a worker of the group that shares the uploads of some lanes.

It has another shape than the other stages, because Faust runs its loop:

* `run` in place of `run_once`: it runs Faust's worker, which handles SIGTERM and exits the process.
* Faust starts and cancels the agent, so `start` and `close` of the pool are called from there.
* Any error ends the process at once (`process_exit.py`), where `runtime.runner` would close the
  stage first: closing would let Faust acknowledge unfinished uploads.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from erasestream.pipeline.stages.inference.worker.broker_login import BrokerLogin
from erasestream.pipeline.stages.inference.worker.client_log_filter import ClientLogFilter
from erasestream.pipeline.stages.inference.worker.epoch_keys import EpochKeys
from erasestream.pipeline.stages.inference.worker.faust_app import RAW, create_app, run_app
from erasestream.pipeline.stages.inference.worker.lookahead import LookAhead
from erasestream.pipeline.stages.inference.worker.process_exit import exit_process
from erasestream.pipeline.stages.inference.worker.result_builder import ResultBuilder
from erasestream.pipeline.stages.inference.worker.result_sender import ResultSender
from erasestream.pipeline.stages.inference.worker.upload_agent import UploadAgent
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.sasl import Sasl

log: logging.Logger = logging.getLogger(__name__)


class InferenceStage:
    """A worker of the group, with its readiness."""

    def __init__(
        self,
        *,
        bootstrap_servers: Sequence[str],
        tls: ssl.SSLContext,
        sasl: Sasl | None = None,
        lanes: Sequence[Lane],
        builder: ResultBuilder,
        keys: EpochKeys | None = None,
        children: int,
        topic_ids: Callable[[Iterable[str]], dict[str, str]],
        max_record_bytes: int,
        member: str | None = None,
        start: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """`children`: how many uploads are worked on at once.

        `sasl` proves the role if the certificate in `tls` does not.  `topic_ids` asks the brokers
        for the current ids of topics; it may block.  `member` is the static name in the group.
        `start` and `close` open and close what the builder needs, beside `keys`.
        """
        self._keys = keys
        self._start = start
        self._close = close
        self._is_assigned = False
        self._has_started = False
        self._client_log = ClientLogFilter()
        lookahead = LookAhead(
            on_failure=exit_process,
            on_full=self._on_full,
            on_room=self._on_room,
            children=children,
        )
        if keys:
            keys.on_change = lookahead.look_again
        self._login = BrokerLogin(tls, sasl)
        self._app = create_app(
            bootstrap_servers=bootstrap_servers,
            login=self._login,
            max_record_bytes=max_record_bytes,
            member=member,
            on_discarded=lookahead.cancel_unwanted,
        )
        self._agent = UploadAgent(
            app=self._app,
            lookahead=lookahead,
            builder=builder,
            sender=ResultSender(self._app, lanes, RAW),
            topic_ids=topic_ids,
            client_log=self._client_log,
        )
        self._register(lanes)

    def run(self, *, on_ending: Callable[[], None]) -> None:
        """Work until SIGTERM, and call `on_ending` then.  Exits the process."""
        self._client_log.install()
        run_app(self._app, on_ending=on_ending)

    def is_ready(self) -> bool:
        """Return whether the children have started and the group has assigned partitions."""
        return self._is_assigned and self._has_started

    def is_at_work(self) -> bool:
        """Return whether the stage is ready and no rebalance is in progress."""
        return self.is_ready() and not self._app.rebalancing

    def renew_login(self) -> None:
        """Use the password that is in the role's file now for later connections.

        Raises `MissingCertificate`.
        """
        self._login.renew()

    def _register(self, lanes: Sequence[Lane]) -> None:
        uploads = self._app.topic(*(uploads_of(lane) for lane in lanes), **RAW)
        self._app.agent(uploads, concurrency=1, name="infer")(self._run_agent)
        self._app.on_partitions_assigned.connect(self._on_assigned, weak=False)

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        self._is_assigned = True
        self._log_if_ready()

    async def _run_agent(self, stream: Any) -> None:
        try:
            await self._start()
            self._has_started = True
            self._log_if_ready()
            await self._agent.process(stream)
        except asyncio.CancelledError:
            if self._keys:
                await self._keys.close()
            await self._close()
            raise
        except BaseException as error:  # noqa: BLE001 - the process ends
            exit_process(error)

    def _on_full(self, partition: Any) -> None:
        self._app.consumer.on_buffer_full(partition)

    def _on_room(self, partition: Any) -> None:
        self._app.consumer.on_buffer_drop(partition)

    def _log_if_ready(self) -> None:
        if self.is_ready():
            log.info("ready", extra={"stage": "infer"})
