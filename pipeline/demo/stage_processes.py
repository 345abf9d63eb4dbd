"""The stages of the demo as processes: started, checked, and quoted if one ends."""

import json

from erasestream.pipeline.demo.progress import Counter, ProgressListener
from erasestream.pipeline.devstack.polling import poll_until
from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.errors import NotReady, Refused

STAGES = ("infer", "route", "sink", "erase", "gateway")
READY_TIMEOUT_S = 240.0
POLL_S = 0.2


def start_stages(stack: Stack, progress: ProgressListener) -> None:
    """Start all stages, and return once each has logged that it is ready.

    Raises `Refused` with the reason of a stage that ends, `Unavailable` after four minutes.
    """
    for name in STAGES:
        stack.start_stage(name)

    def are_ready() -> bool:
        check_stages(stack)
        ready = sum(bool(_logged(stack, name, "ready")) for name in STAGES)
        progress.count(Counter.READY, done=ready, total=len(STAGES))
        return ready == len(STAGES)

    if not poll_until(are_ready, timeout_s=READY_TIMEOUT_S, poll_s=POLL_S):
        raise NotReady(f"the stages are not ready after {READY_TIMEOUT_S:.0f} s")


def start_receipts(stack: Stack) -> None:
    """Start the log of receipts and its auditor, without waiting for them."""
    stack.start_stage("attest")
    stack.start_audit()


def check_stages(stack: Stack) -> None:
    """Raise `Refused`, with the logged reason, if a stage has ended."""
    for name in STAGES:
        if stack.stage(name).process_id is None:
            reasons = [str(line.get("reason", "")) for line in _logged(stack, name, "ended")]
            reason = reasons[-1] if reasons else "it logged no reason; its log is kept"
            raise Refused(f"the stage {name} ended: {reason}")


def _logged(stack: Stack, name: str, event: str) -> list[dict[str, object]]:
    """Return the lines that a stage has logged of one event; an incomplete line is skipped."""
    found = []
    for text in stack.log_of(name).read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("event") == event:
            found.append(line)
    return found
