"""The demo: a stack of its own, photos through it, a look at what lies where, and a report.

It ends by itself.  However it ends, everything that it started is stopped and the stack's
folder is deleted, since records lie in it in clear: a broker that does not run deletes
nothing.  What is left in the output folder are the report, the pictures and the logs.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from erasestream.pipeline.bootstrap import storage
from erasestream.pipeline.bootstrap.consent import consent_writer
from erasestream.pipeline.demo import plaintext_search, report
from erasestream.pipeline.demo.checks import Check, checks
from erasestream.pipeline.demo.customers import Results, Sent, now, send
from erasestream.pipeline.demo.inspection import Inspector
from erasestream.pipeline.demo.observations import Journey, Observations, RetainedRecord
from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.progress import Counted, Viewer
from erasestream.pipeline.demo.scenario import OPTED_IN, SENDERS, Order, orders
from erasestream.pipeline.demo.stage_processes import POLL_S, check_stages, start_stages
from erasestream.pipeline.devstack.kafka.java_launcher import FIRST_COMPILER_ONLY
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import BROKER, BUCKET
from erasestream.pipeline.settings import load
from erasestream.pipeline.stages.inference.models.store import ModelStore
from erasestream.schemas.errors import Refused
from erasestream.schemas.events.consent import MAX_CLOCK_SKEW, Channel
from erasestream.schemas.events.images import Part
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.kafka.admin import Admin

STACK = "stack"
LOGS = "logs"
RESULTS = "results"
REPORT = "report.html"

STORED_S = 60.0
"""Longest wait for the sink; what is missing then is missing in the report."""
BEYOND_SKEW = MAX_CLOCK_SKEW + timedelta(seconds=0.5)
"""So long after an opt-in, an upload surely counts as made after it."""
PHOTOS = "photos"
EXTENSIONS = {"image/png": "png", "image/webp": "webp"}


class Outcome(NamedTuple):
    """Where the report is, and what it says."""

    report: Path
    checks: tuple[Check, ...]
    total_s: float


def run_demo(
    *,
    photos: Sequence[Photo],
    output: Path,
    cache: Path,
    model: str,
    models: Path,
    viewer: Viewer,
) -> Outcome:
    """Run all of it.  Raises `Refused` or `Unavailable` with a sentence if it can not.

    `cache`: the folder with Kafka's jars; `models`: the store that `model` is installed in.
    """
    started_at, started = now(), time.monotonic()
    ModelStore(models).find(model)
    with _stack(output, cache, viewer) as stack:
        stack.create(models=models, model=model, java_options=FIRST_COMPILER_ONLY)
        viewer.say("Starting Kafka with mutual TLS, and a private bucket")
        stack.start_servers()
        provision(
            Admin(stack.admin()),
            stack.catalog(),
            show=lambda plan: viewer.say(
                f"Provisioning topics and rights: {len(plan.changes)} changes"
            ),
        )
        start_stages(stack, viewer)
        evidence = _Run(stack, viewer, started_at, started).through(list(orders(photos)))
        viewer.say("Stopping everything")
    _save_pictures(output / RESULTS, evidence.journeys)
    path = report.write(output / REPORT, evidence)
    return Outcome(path, checks(evidence), time.monotonic() - started)


@contextmanager
def _stack(output: Path, cache: Path, viewer: Viewer) -> Iterator[Stack]:
    """A new stack, stopped and deleted at the end; its logs stay."""
    folder = output / STACK
    stack = Stack(folder, cache=cache, progress=viewer.say)
    if stack.running():
        raise Refused(f"another demo runs in {output}: wait for it, or choose another folder")
    if folder.exists() and not stack.exists:
        raise Refused(f"{folder} is not from a demo: move it, or choose another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield stack
    finally:
        stack.stop()
        if stack.files.logs.is_dir():
            shutil.copytree(stack.files.logs, output / LOGS, dirs_exist_ok=True)
        shutil.rmtree(folder)


class _Run:
    """From the opt-in to what was found."""

    def __init__(self, stack: Stack, viewer: Viewer, started_at: datetime, started: float) -> None:
        self._stack = stack
        self._viewer = viewer
        self._started_at = started_at
        self._started = started
        self._settings = load(stack.files.settings)

    def through(self, planned: Sequence[Order]) -> Observations:
        """Send everything, take everything, wait for the sink, then look."""
        with Results(self._stack.cluster) as results:
            granted_at = self._opt_in(results)
            self._viewer.say(f"Sending {len(planned)} uploads of {len(SENDERS)} accounts")
            sent = self._send(planned)
            self._take(results, sent)
        with storage.retained_reader(self._settings) as reader:
            inspector = Inspector(self._settings, reader)
            retained = inspector.retained()
            self._wait_for_sink(inspector, len(retained))
            self._viewer.say("Looking at what lies where")
            return self._look(inspector, granted_at, retained, sent, results)

    def _opt_in(self, results: Results) -> datetime:
        """The owner opts in, and enough time passes for every upload to count as later."""
        role = lane_role(OPTED_IN.lane, LaneRole.ACCOUNT)
        writer = consent_writer(self._settings, OPTED_IN.lane, role=role)
        granted = writer.grant(OPTED_IN.account, actor="owner", channel=Channel.LIBRARY)
        self._viewer.say("One account has opted in; the others have not")
        while now() <= granted.at + BEYOND_SKEW:
            results.take()  # meanwhile the subscriptions join their groups
        return granted.at

    def _send(self, planned: Sequence[Order]) -> list[Sent]:
        sent: list[Sent] = []

        def acknowledged(one: Sent) -> None:
            sent.append(one)
            self._viewer.show(Counted.SENT, done=len(sent), total=len(planned))

        send(self._stack.cluster, planned, sent=acknowledged)
        return sent

    def _take(self, results: Results, sent: Sequence[Sent]) -> None:
        def each_turn() -> None:
            self._viewer.show(Counted.TAKEN, done=len(results.taken), total=len(sent))
            check_stages(self._stack)

        results.take_all([one.receipt.upload_id for one in sent], each_turn=each_turn)

    def _wait_for_sink(self, inspector: Inspector, expected: int) -> None:
        deadline = time.monotonic() + STORED_S
        while True:
            stored = len(inspector.readable())
            self._viewer.show(Counted.STORED, done=stored, total=expected)
            if stored >= expected or time.monotonic() > deadline:
                return
            check_stages(self._stack)
            time.sleep(POLL_S)

    def _look(
        self,
        inspector: Inspector,
        granted_at: datetime,
        retained: Sequence[RetainedRecord],
        sent: Sequence[Sent],
        results: Results,
    ) -> Observations:
        journeys = list(_journeys(sent, results, retained))
        kept = {(j.upload_id, part): j.picture(part) for j in journeys for part in Part}
        folder = self._stack.files.directory
        pixels = plaintext_search.named(_images(journeys))
        return Observations(
            started_at=self._started_at,
            model=self._settings.inference.model if self._settings.inference else "",
            promise=self._stack.catalog().policy,
            journeys=journeys,
            results=len(results.taken),
            passed_over=results.passed_over,
            granted_at=granted_at,
            topics=inspector.topics(),
            retained=retained,
            listing=inspector.listing(),
            stored=list(inspector.stored(kept)),
            pixels_in_bucket=plaintext_search.search(folder / BUCKET, pixels),
            names_in_bucket=plaintext_search.search(folder / BUCKET, _names(journeys)),
            pixels_in_topics=plaintext_search.search(
                folder / BROKER / "data", pixels, pattern="*.log"
            ),
            attempts=inspector.attempts(),
            total_s=time.monotonic() - self._started,
        )


def _journeys(
    sent: Iterable[Sent], results: Results, retained: Iterable[RetainedRecord]
) -> Iterator[Journey]:
    taken = {one.event.id: one for one in results.taken}
    kept = [record.upload_id for record in retained]
    for one in sent:
        upload = one.receipt.upload_id
        yield Journey(sent=one, taken=taken[upload], kept=kept.count(upload))


def _images(journeys: Sequence[Journey]) -> Iterator[tuple[str, bytes]]:
    for journey in journeys:
        for part in Part:
            if image := journey.picture(part):
                yield f"{part} of {journey.order.reference}", image


def _names(journeys: Sequence[Journey]) -> dict[str, bytes]:
    names = {journey.order.reference for journey in journeys}
    names |= {journey.order.sender.account for journey in journeys}
    return {name: name.encode() for name in names}


def _save_pictures(folder: Path, journeys: Sequence[Journey]) -> None:
    """Write photos and cut-outs, a folder for each account; those of an earlier demo go."""
    folders = [folder / name for name in (PHOTOS, *(sender.label for sender in SENDERS))]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
        for old in each.glob("*.*"):
            old.unlink()
    for journey in journeys:
        order, number = journey.order, journey.order.reference.rpartition("-")[2]
        (folder / PHOTOS / order.photo.name).write_bytes(order.photo.data)
        if cutout := journey.cutout:
            name = f"{Path(order.photo.name).stem}-{number}.{EXTENSIONS[cutout.content_type]}"
            (folder / order.sender.label / name).write_bytes(cutout.data)
