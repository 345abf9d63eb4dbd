"""Overload: clients that send four times as much as the gateway can answer.

First as many clients as there is room for find out what the pipeline can do, and how long its
answers take.  Then four times as much arrives, at times of its own: no client waits for
an answer before the next request is sent.
"""

import asyncio
import random
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from erasestream.pipeline.bootstrap.credentials import open_credential_writer
from erasestream.schemas.events.credentials import CredentialKind
from tests.bench.figures import Figure, publish
from tests.faults.memory_watch import MemoryWatch, resident_mb
from tests.flow.pictures import photo as picture
from tests.flow.pipeline_harness import BULK, PipelineHarness
from tests.flow.waiting import eventually

ROOM = 8
"""Requests that the gateway accepts at once."""
TIMES = 4
REFUSALS = frozenset({429, 503})
SETTINGS = {
    "ERASESTREAM_GATEWAY__MAX_WAITING": f"{ROOM}",
    "ERASESTREAM_GATEWAY__RATE_PER_MINUTE": "1000000",
}
PATIENCE_S = 120.0
NORMAL_S, SECONDS = 20.0, 60.0
CONNECTIONS = 200
MAX_GROWTH_MB = 100
"""The connections of the flood, with 0.4 MB each (docs/gateway.md), and the images in the room."""


@dataclass
class Answers:
    """Answers that clients got: statuses, and how long accepted requests took."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Outcomes that no client should get: other statuses, refusals without Retry-After, silence."""

    @property
    def p99_s(self) -> float:
        """99th percentile of the accepted."""
        ordered = sorted(self.accepted_s)
        return ordered[max(0, len(ordered) * 99 // 100 - 1)]


class Load:
    """Sends one photo again and again, with one of several keys."""

    def __init__(self, url: str, authority: Path, keys: Sequence[str], photo: bytes) -> None:
        self._url = url
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._keys = keys
        self._photo = photo
        self.answers = Answers()

    async def closed(self, clients: int, seconds: float) -> None:
        """Let each client send its next request once the last is answered."""
        until = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < until:
                await self._send(session)

        async with self._session() as session:
            await asyncio.gather(*(client() for _ in range(clients)))

    async def open(self, per_s: float, seconds: float, *, seed: int = 7) -> None:
        """Let requests arrive as a Poisson process."""
        arrivals = random.Random(seed)
        until = time.monotonic() + seconds
        async with self._session() as session, asyncio.TaskGroup() as sending:
            due = time.monotonic()
            while due < until:
                await asyncio.sleep(due - time.monotonic())
                sending.create_task(self._send(session))
                due += arrivals.expovariate(per_s)

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        return aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        form = aiohttp.FormData()
        form.add_field("image_file", self._photo, filename="photo.jpg")
        headers = {"x-api-key": random.choice(self._keys)}
        begun = time.monotonic()
        try:
            async with session.post(f"{self._url}/v2", data=form, headers=headers) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers.wrong.append(type(error).__name__)
            return
        self.answers.statuses[answer.status] += 1
        if answer.status == 200:
            self.answers.accepted_s.append(time.monotonic() - begun)
        elif answer.status not in REFUSALS or "Retry-After" not in answer.headers:
            self.answers.wrong.append(f"{answer.status}")


def issue_keys(flow: PipelineHarness, count: int) -> list[str]:
    """Return new keys, each of an account of its own."""
    with open_credential_writer(flow.settings, BULK) as writer:
        return [writer.create(f"load-{n}", CredentialKind.IMAGE).text for n in range(count)]


def load_on(flow: PipelineHarness, keys: Sequence[str], photo: bytes) -> Load:
    """Return a load on the gateway of this stack."""
    return Load(flow.stack.gateway_url, flow.stack.files.identities / "ca.crt", keys, photo)


def is_known(flow: PipelineHarness, key: str, photo: bytes) -> bool:
    """Return whether the gateway accepts this key."""
    load = load_on(flow, [key], photo)
    asyncio.run(load.closed(1, 0.01))
    return load.answers.statuses[200] > 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Answers before and during an overload, and the gateway's memory."""

    normal: Answers
    overload: Answers
    per_s: float
    before_mb: float
    peak_mb: float


def overload(flow: PipelineHarness, photo: bytes, *, normal_s: float, seconds: float) -> Outcome:
    """Overload the gateway of a running pipeline, which is not started yet."""
    flow.start_stages(("gateway",), **SETTINGS)
    try:
        keys = issue_keys(flow, TIMES)
        eventually("all keys are known", lambda: all(is_known(flow, key, photo) for key in keys))
        normal = load_on(flow, keys, photo)
        asyncio.run(normal.closed(ROOM, normal_s))
        per_s = normal.answers.statuses[200] / normal_s
        process = flow.stack.stage("gateway").process_id
        assert process is not None
        flood = load_on(flow, keys, photo)
        with MemoryWatch(process.pid) as watch:
            before_mb = resident_mb(psutil.Process(process.pid))
            asyncio.run(flood.open(TIMES * per_s, seconds))
        return Outcome(
            normal=normal.answers,
            overload=flood.answers,
            per_s=per_s,
            before_mb=before_mb,
            peak_mb=max(before_mb, watch.worker_mb),
        )
    finally:
        flow.stack.stop_stage("gateway")


def figures(outcome: Outcome) -> list[Figure]:
    """Return the figures of an overload."""
    normal_ms, p99_ms = outcome.normal.p99_s * 1000, outcome.overload.p99_s * 1000
    wrong = len(outcome.normal.wrong) + len(outcome.overload.wrong)
    accepted, total = outcome.overload.statuses[200], outcome.overload.statuses.total()
    growth_mb = round(outcome.peak_mb - outcome.before_mb)
    is_in_time, is_bounded = p99_ms <= 2 * normal_ms, growth_mb <= MAX_GROWTH_MB
    name = "faults.overload"
    return [
        Figure(f"{name}.capacity_per_s", round(outcome.per_s, 1), "1/s"),
        Figure(f"{name}.normal_p99_ms", round(normal_ms), "ms"),
        Figure(f"{name}.p99_ms", round(p99_ms), "ms", "<= 2x normal", is_in_time),
        Figure(f"{name}.accepted", accepted, "1", "> 0", accepted > 0),
        Figure(f"{name}.refused", total - accepted, "1"),
        Figure(f"{name}.wrong", wrong, "1", "= 0", wrong == 0),
        Figure(f"{name}.memory_growth_mb", growth_mb, "MB", f"<= {MAX_GROWTH_MB}", is_bounded),
    ]


def run() -> int:
    """Overload a gateway of a pipeline of its own; return 0 if nothing is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        flow = PipelineHarness(Path(folder))
        try:
            flow.start()
            found = figures(overload(flow, picture(), normal_s=NORMAL_S, seconds=SECONDS))
        finally:
            flow.stop()
    publish("faults.json", found)
    return int(any(each.holds is False for each in found))
