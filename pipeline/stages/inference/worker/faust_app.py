"""Faust, configured in the one form that was measured to be safe.

*Every offset of `uploads.L` yields exactly one record of `cutouts.L`, in order, in the partition
of the same number.*  Replays after a crash repeat records; they never skip one and never leave a
gap.  The conditions, measured on faust-streaming 0.15 and aiokafka 0.14 (0 lost under
exceptions, rejected sends, kill -9 and rebalances):

* at_least_once, no tables, one agent with concurrency 1, which acknowledges each event itself
  once its result is acknowledged.
* Every send is awaited until it is acknowledged, and only then does its partition deliver the next
  record: sends issued together can leave a gap.  Partitions run in parallel, and all of them look
  ahead (`lookahead.py`).
* An unexpected exception ends the process at once, before Faust can acknowledge anything.
* The producer is idempotent, which Faust leaves off outside transactions.
* A rebalance discards all events in progress (`group_transport.py`): an event is acknowledged only
  if the consumer still waits for it, so never one that follows a discarded one.
* No leader topic, no declaration of topics, no web server; buffers of two batches.

Faust's own exactly-once mode is not used; `docs/decisions` gives the reasons.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faust

from erasestream.pipeline.stages.inference.worker import record_parser
from erasestream.pipeline.stages.inference.worker.broker_login import BrokerLogin
from erasestream.pipeline.stages.inference.worker.group_transport import GroupTransport
from erasestream.pipeline.stages.inference.worker.partition_assignor import StickyAssignor
from erasestream.schemas.errors import InvariantBroken
from erasestream.topics.catalog.roles import INFERENCE

BATCH = 16
"""Uploads that are read at once."""
FETCH_BYTES = 4_000_000
METADATA_MS = 10_000
"""How often a worker looks up the leaders of partitions."""
RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
_OPTIONS: dict[str, Any] = {
    "processing_guarantee": "at_least_once",
    "store": "memory://",
    "datadir": Path(tempfile.gettempdir()) / "erasestream-inference",  # stays empty: no tables
    "web_enabled": False,
    "topic_disable_leader": True,
    "topic_allow_declare": False,
    "consumer_auto_offset_reset": "earliest",
    # Per partition, of which aiokafka holds one response each; a larger record is fetched anyway.
    "consumer_max_fetch_size": FETCH_BYTES,
    "broker_max_poll_records": BATCH,
    "broker_session_timeout": 10.0,
    "broker_heartbeat_interval": 2.0,
    # Shorter than a request: otherwise the first member to join retries before it is answered.
    "broker_rebalance_timeout": 25.0,
    "broker_commit_interval": 1.0,
    "broker_request_timeout": 30.0,
    "producer_request_timeout": 30.0,
    # aiokafka asks the leader that it knows for a partition's position.  If the leader has moved it
    # keeps asking the old one, until metadata is refreshed; by default that is after five minutes.
    "consumer_metadata_max_age_ms": METADATA_MS,
    "producer_metadata_max_age_ms": METADATA_MS,
    "stream_buffer_maxsize": 2 * BATCH,
    "stream_wait_empty": True,
    "stream_recovery_delay": 0.0,
    "PartitionAssignor": StickyAssignor,
    "canonical_url": "http://worker",  # constant: no client connects to it
}


def create_app(
    *,
    bootstrap_servers: Sequence[str],
    login: BrokerLogin,
    max_record_bytes: int,
    member: str | None,
    on_discarded: Callable[[], None],
) -> faust.App:
    """Create the app.  `on_discarded` is called when a rebalance has discarded all events.

    `member`: the static name of this worker in its group; without one it is a new member at each
    start, and its partitions wait until the session of the old one has timed out.
    """
    record_parser.install()
    app = faust.App(
        INFERENCE,
        broker=[f"kafka://{server}" for server in bootstrap_servers],
        broker_credentials=login.credentials(),
        consumer_group_instance_id=member,
        producer_max_request_size=max_record_bytes,
        **_OPTIONS,
    )
    transport = GroupTransport(
        app.conf.broker_producer, app, login=login, on_discarded=on_discarded
    )
    if not transport.Producer(transport)._settings_extra()["enable_idempotence"]:
        raise InvariantBroken("the producer of inference is not idempotent")
    app.transport = app.producer_transport = transport
    return app


class _Worker(faust.Worker):
    """Faust's worker, which reports the signals that end it."""

    def __init__(self, app: faust.App, on_ending: Callable[[], None]) -> None:
        super().__init__(
            app, loglevel="WARNING", redirect_stdouts=False, override_logging=False, quiet=True
        )
        self._on_ending = on_ending

    def _schedule_shutdown(self, signal: Any) -> None:
        self._on_ending()
        super()._schedule_shutdown(signal)


def run_app(app: faust.App, *, on_ending: Callable[[], None]) -> None:
    """Run the app until SIGTERM, and call `on_ending` then.  Exits the process."""
    worker = _Worker(app, on_ending)
    worker.spinner = None  # it writes to the terminal, between our log lines
    worker.execute_from_commandline()
