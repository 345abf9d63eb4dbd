"""Faults of a local bucket, switched on and off while it runs: `switch_faults(path, [...])`.

The server reads the file (`faults` in its settings) before each request.  Of several faults the
first that applies is taken, until it was taken `times` times since the file was written.  Only
callers with a token meet them; the file is in the folder of the server's owner.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from erasestream.pipeline.devstack.gcs_emulator.responses import error_response

TRANSPORT = "erasestream.transport"
"""The key of the connection's transport in a scope."""


class Fault(BaseModel):
    """One kind of fault: a delay, a status, or a connection that is closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: frozenset[str] = frozenset({"GET", "POST", "DELETE"})
    bucket: str | None = None
    """The only bucket with this fault; None: all."""
    times: Annotated[int, Field(ge=1)] | None = None
    """Requests that meet it; None: all, as long as it is switched on."""
    delay_s: Annotated[float, Field(ge=0)] = 0.0
    """Time before anything else."""
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    cut_after: Annotated[int, Field(ge=0)] | None = None
    """Bytes of a body after which the connection is closed."""
    part: Literal["request", "response"] = "request"
    """With `request` nothing is done: the status is the answer, the cut is in the request.  With
    `response` the request takes effect and its answer is lost: replaced by the status, or cut."""

    @model_validator(mode="after")
    def _check(self) -> "Fault":
        if self.status is not None and self.cut_after is not None:
            raise ValueError("either a status or a cut")
        return self


_FAULTS = TypeAdapter(tuple[Fault, ...])


def switch_faults(path: Path, faults: Iterable[Fault]) -> None:
    """Replace the faults of the server that reads this file; none: switch all off."""
    draft = path.with_suffix(".new")
    draft.write_bytes(_FAULTS.dump_json(tuple(faults)))
    draft.replace(path)


class FaultFile:
    """The faults that are switched on now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, int] | None = None
        self._faults: tuple[Fault, ...] = ()
        self._taken: Counter[Fault] = Counter()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that a request meets, if any, and count it."""
        self._refresh()
        for fault in self._faults:
            meets = method in fault.methods and (
                fault.bucket is None or f"/b/{fault.bucket}/" in f"{path}/"
            )
            if meets and (fault.times is None or self._taken[fault] < fault.times):
                self._taken[fault] += 1
                return fault
        return None

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._faults, self._read = (), None
            return
        version = (found.st_ino, found.st_mtime_ns)
        if version != self._read:
            self._faults = _FAULTS.validate_json(self._path.read_bytes())
            self._taken.clear()
            self._read = version


class FaultInjector:
    """ASGI middleware that lets requests meet the faults of a file."""

    def __init__(self, app: ASGIApp, faults: FaultFile) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        fault = self._faults.take(scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        await asyncio.sleep(fault.delay_s)
        if fault.part == "request" and fault.cut_after is not None:
            await _cut_request(scope, receive, fault.cut_after)
            return
        if fault.part == "response" or fault.status is None:
            send_rest = send
            if fault.status is not None:
                send_rest = _discard
            elif fault.cut_after is not None:
                send_rest = _CutResponse(scope, send, fault.cut_after).send
            await self._app(scope, receive, send_rest)
        if fault.status is not None:
            answer = error_response(fault.status, "injected", "A fault that was switched on.")
            await answer(scope, receive, send)


async def _cut_request(scope: Scope, receive: Receive, size: int) -> None:
    """Close the connection once so much of the body was received; wait until it is closed."""
    received = 0
    message: Message = {"more_body": True}
    while received < size and message.get("more_body"):
        message = await receive()
        received += len(message.get("body", b""))
    scope[TRANSPORT].abort()
    while message.get("type") != "http.disconnect":
        message = await receive()


async def _discard(_: Message) -> None:
    """Send nothing."""


class _CutResponse:
    """Sends so much of a response's body, and closes the connection."""

    def __init__(self, scope: Scope, send: Send, size: int) -> None:
        self._transport = scope[TRANSPORT]
        self._send = send
        self._left = size

    async def send(self, message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] == "http.response.start" or len(body) < self._left:
            self._left -= len(body)
            await self._send(message)
            return
        await self._send({**message, "body": body[: self._left], "more_body": True})
        self._transport.close()
