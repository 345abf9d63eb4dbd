"""No stage leaves a core dump, which would hold customers' pixels."""

import os
import resource
import signal
from contextlib import suppress

import psutil

from tests.flow.pipeline_harness import PipelineHarness

EVERY_STAGE = ("infer", "route", "sink", "purge", "erase", "keys")


def core_limits(pid: int) -> set[tuple[int, int]]:
    """Return the limits of a core dump of this process and of all its descendants."""
    family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return {resource.prlimit(each, resource.RLIMIT_CORE) for each in family}


def test_no_stage_can_be_made_to_leave_a_core_dump(fragile: PipelineHarness) -> None:
    """Its limit is 0; and where root raises the limit again, a crash still leaves no dump."""
    fragile.start_stages(EVERY_STAGE)
    for name in EVERY_STAGE:
        running = fragile.stack.stage(name).process_id
        assert running, name
        assert core_limits(running.pid) == {(0, 0)}, name
        with suppress(PermissionError):  # without CAP_SYS_RESOURCE the limit stays
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(running.pid, resource.RLIMIT_CORE, unlimited)
        fragile.stack.stage(name).send(signal.SIGABRT)
        # CLD_DUMPED instead would mean that the kernel wrote one.
        ended = os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert ended
        assert (ended.si_code, ended.si_status) == (os.CLD_KILLED, signal.SIGABRT), name
        assert fragile.exit_code(name) == -signal.SIGABRT
