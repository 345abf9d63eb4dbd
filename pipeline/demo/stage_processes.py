"""The stages of the demo as processes: started, watched, and quoted if one ends."""

import json
import time
from collections.abc import Callable

from erasestream.pipeline.demo.progress import Counted, Viewer
from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.errors import Refused, Unavailable

STAGES = ("infer", "route", "sink")
READY_S = 90.0
POLL_S = 0.2


def start_stages(stack: Stack, viewer: Viewer) -> None:
    """Start all side by side and wait until each says that it is ready.

    Raises `Refused` with the sentence of a stage that ends, `Unavailable` after 90 s.
    """
    for name in STAGES:
        stack.start_stage(name)

    def are_ready() -> bool:
        check_stages(stack)
        ready = sum(bool(_lines(stack, name, "ready")) for name in STAGES)
        viewer.show(Counted.READY, done=ready, total=len(STAGES))
        return ready == len(STAGES)

    wait_until("all stages are ready", are_ready, deadline_s=READY_S)


def check_stages(stack: Stack) -> None:
    """Raise `Refused`, with its sentence, if a stage has ended."""
    for name in STAGES:
        if stack.stage(name).process_id is None:
            reasons = [str(line.get("reason", "")) for line in _lines(stack, name, "ended")]
            said = reasons[-1] if reasons else "it said nothing; its log is left"
            raise Refused(f"the stage {name} ended: {said}")


def wait_until(what: str, condition: Callable[[], bool], *, deadline_s: float) -> None:
    """Ask again and again.  Raises `Unavailable` after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(POLL_S)


def _lines(stack: Stack, name: str, event: str) -> list[dict[str, object]]:
    """What a stage logged of one kind; a line that is still being written comes later."""
    found = []
    for text in stack.log_of(name).read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("event") == event:
            found.append(line)
    return found
