"""The demo: starts a stack, sends photos through it, inspects topics and buckets, and reports.

It ends by itself, or once the visitors of its gateway have left.  Everything that
it started is stopped, however it ends; see `output_folder.py`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from erasestream.pipeline.bootstrap import storage
from erasestream.pipeline.bootstrap.consent import consent_writer
from erasestream.pipeline.demo import plaintext_search, report, visitors
from erasestream.pipeline.demo.checks import Check, evaluate
from erasestream.pipeline.demo.customers import ResultReceiver, SentUpload, send_all
from erasestream.pipeline.demo.inspection import Inspector
from erasestream.pipeline.demo.observations import (
    Observations,
    RetainedRecord,
    UploadTrace,
    trace_uploads,
)
from erasestream.pipeline.demo.output_folder import (
    REPORT,
    save_pictures,
    saved_photo,
    temporary_stack,
)
from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.progress import Counter, ProgressListener
from erasestream.pipeline.demo.scenario import BULK, OPTED_IN, SENDERS, SHOP, Order, orders
from erasestream.pipeline.demo.stage_processes import (
    POLL_S,
    check_stages,
    start_receipts,
    start_stages,
)
from erasestream.pipeline.demo.visitors import Invitation, Keys
from erasestream.pipeline.devstack.kafka.java_launcher import SHORT_LIVED
from erasestream.pipeline.devstack.polling import poll_until
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import BROKER, BUCKET
from erasestream.pipeline.settings import LaneSettings, load
from erasestream.pipeline.stages.inference.models.store import ModelStore
from erasestream.schemas.clocks import utc_now
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.kafka.admin import Admin

LANE_SETTINGS: Mapping[Lane, LaneSettings] = {
    SHOP: LaneSettings(gateway=True),
    BULK: LaneSettings(),
}
STORED_TIMEOUT_S = 180.0
"""Longest wait for the sink; an object that is missing then is missing in the report."""
BEYOND_SKEW = MAX_CLOCK_SKEW + timedelta(seconds=0.5)
"""Time after an opt-in from which every upload counts as made after it."""


class Outcome(NamedTuple):
    """The result of a demo."""

    report: Path
    checks: tuple[Check, ...]
    total_s: float


class Serving(NamedTuple):
    """A demo whose gateway serves until the call to which this is given returns."""

    outcome: Outcome
    invitation: Invitation
    check: Callable[[], None]
    """Raises `Refused` if a stage has ended."""
    issue_receipts: Callable[[], None]
    """Starts what issues receipts to the owners, within seconds."""


def run_demo(
    *,
    photos: Sequence[Photo],
    output: Path,
    cache: Path,
    model: str,
    models: Path,
    progress: ProgressListener,
    serve: Callable[[Serving], None] = lambda _serving: None,
) -> Outcome:
    """Run the demo.  Raises `Refused` or `Unavailable` if that is not possible.

    `cache`: the folder with Kafka's jars; `models`: the store in which `model` is installed.
    `serve` is called at the end, with everything running; once it returns, everything is stopped.
    """
    started_at, started = utc_now(), time.monotonic()
    ModelStore(models).find(model)
    with temporary_stack(output, cache, progress.log) as stack:
        keys = _start(stack, progress, model=model, models=models)
        observed = _Scenario(stack, progress, started_at, started).run(list(orders(photos)))
        progress.log("Taking screenshots of the account page")
        pictures = visitors.screenshots(stack, keys)
        save_pictures(output, observed.uploads)
        path = report.write(output / REPORT, observed, pictures)
        outcome = Outcome(path, evaluate(observed), time.monotonic() - started)
        serve(
            Serving(
                outcome,
                visitors.invitation(stack, keys, saved_photo(output, photos[0])),
                check=lambda: check_stages(stack),
                issue_receipts=lambda: start_receipts(stack),
            )
        )
        progress.log("Stopping everything")
    return outcome


def _start(stack: Stack, progress: ProgressListener, *, model: str, models: Path) -> Keys:
    stack.create(lanes=LANE_SETTINGS, models=models, model=model, java_options=SHORT_LIVED)
    progress.log("Starting Kafka with mutual TLS, and a private bucket")
    stack.start_servers()
    with Admin(stack.admin()) as admin:
        provision(
            admin,
            stack.catalog(),
            show=lambda plan: progress.log(
                f"Provisioning topics and rights: {len(plan.changes)} changes"
            ),
        )
    keys = visitors.issue_keys(stack)
    start_stages(stack, progress)
    return keys


class _Scenario:
    """The scenario on a running stack, from the opt-in to the observations."""

    def __init__(
        self, stack: Stack, progress: ProgressListener, started_at: datetime, started: float
    ) -> None:
        self._stack = stack
        self._progress = progress
        self._started_at = started_at
        self._started = started
        self._settings = load(stack.files.settings)

    def run(self, planned: Sequence[Order]) -> Observations:
        """Send all uploads, receive all results, wait for the sink, then inspect."""
        with ResultReceiver(self._stack.cluster) as results:
            granted_at = self._opt_in(results)
            self._progress.log(f"Sending {len(planned)} uploads of {len(SENDERS)} accounts")
            sent = self._send(planned)
            self._receive(results, sent)
        with storage.retained_reader(self._settings) as reader:
            inspector = Inspector(self._settings, reader)
            retained = inspector.retained()
            self._wait_for_sink(inspector, len(retained))
            self._progress.log("Inspecting topics and buckets")
            return self._observe(inspector, granted_at, retained, sent, results)

    def _opt_in(self, results: ResultReceiver) -> datetime:
        """Opt in as the owner, and wait until every upload counts as made after it."""
        role = lane_role(OPTED_IN.lane, LaneRole.ACCOUNT)
        with consent_writer(self._settings, OPTED_IN.lane, role=role) as writer:
            granted = writer.grant(OPTED_IN.account, actor="owner", channel=Channel.LIBRARY)
        self._progress.log("One account has opted in; the others have not")
        # The demo's brokers use this machine's clock, too.
        while utc_now() <= granted.at + BEYOND_SKEW:
            results.poll()  # meanwhile the subscriptions join their groups
        return granted.at

    def _send(self, planned: Sequence[Order]) -> list[SentUpload]:
        sent: list[SentUpload] = []

        def on_sent(upload: SentUpload) -> None:
            sent.append(upload)
            self._progress.count(Counter.SENT, done=len(sent), total=len(planned))

        send_all(self._stack.cluster, planned, on_sent=on_sent)
        return sent

    def _receive(self, results: ResultReceiver, sent: Sequence[SentUpload]) -> None:
        def on_poll() -> None:
            self._progress.count(Counter.RECEIVED, done=len(results.received), total=len(sent))
            check_stages(self._stack)

        results.receive_all([each.receipt.upload_id for each in sent], on_poll=on_poll)

    def _wait_for_sink(self, inspector: Inspector, expected: int) -> None:
        def is_complete() -> bool:
            stored = len(inspector.readable())
            self._progress.count(Counter.STORED, done=stored, total=expected)
            if stored < expected:
                check_stages(self._stack)
            return stored >= expected

        poll_until(is_complete, timeout_s=STORED_TIMEOUT_S, poll_s=POLL_S)

    def _observe(
        self,
        inspector: Inspector,
        granted_at: datetime,
        retained: Sequence[RetainedRecord],
        sent: Sequence[SentUpload],
        results: ResultReceiver,
    ) -> Observations:
        uploads = list(trace_uploads(sent, results.received, retained))
        expected = {(u.upload_id, part): u.picture(part) for u in uploads for part in Part}
        folder = self._stack.files.directory
        pixels, names = plaintext_search.named_pieces(_images(uploads)), _names(uploads)
        topics, values = inspector.topics()
        return Observations(
            started_at=self._started_at,
            model=self._settings.inference.model if self._settings.inference else "",
            policy=self._stack.catalog().policy,
            uploads=uploads,
            results=len(results.received),
            skipped=results.skipped,
            granted_at=granted_at,
            topics=topics,
            retained=retained,
            listing=inspector.listing(),
            stored=list(inspector.stored(expected)),
            pixels_in_bucket=plaintext_search.search(folder / BUCKET, pixels),
            names_in_bucket=plaintext_search.search(folder / BUCKET, names),
            pixels_in_broker=plaintext_search.search(folder / BROKER, pixels),
            records_in_broker=plaintext_search.search(
                folder / BROKER, values.pieces, pattern="*.log"
            ),
            on_broker=list(values.on_disk(folder / BROKER / "data")),
            keys=inspector.keys(),
            attempts=inspector.attempts(),
            total_s=time.monotonic() - self._started,
        )


def _images(uploads: Sequence[UploadTrace]) -> Iterator[tuple[str, bytes]]:
    for upload in uploads:
        for part in Part:
            if image := upload.picture(part):
                yield f"{part} of {upload.order.reference}", image


def _names(uploads: Sequence[UploadTrace]) -> dict[str, bytes]:
    names = {upload.order.reference for upload in uploads}
    names |= {upload.order.sender.account for upload in uploads}
    return {name: name.encode() for name in names}
