"""The program of a worker process: load the model, give up every right, then run tasks.

A zygote forks a child for each image.  It never sees a picture and never runs the model: what a
child inherits is what was there before the first picture.

* The memory of a task arrives over the socket, goes to the child, and is closed here at once.
* A child that ends, closes its end of a pipe or exceeds its deadline is killed and reaped before
  its outcome is reported: by then nothing can write into the reply.
* A child is started by fork, the zygote itself by exec, never by a fork of a process with
  threads; it ends with its parent.

A long-lived process (`Isolation.LONG_LIVED`) runs every task itself; the parent kills it at a
deadline.
"""

import gc
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial

from erasestream.pipeline.runtime.sandbox import restrictions
from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.runtime.sandbox.seccomp import Filter
from erasestream.pipeline.stages.inference import heap
from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.isolation.job import CutOut, JobBuffers, run_job
from erasestream.pipeline.stages.inference.isolation.launch_config import LaunchConfig
from erasestream.pipeline.stages.inference.isolation.preload import preload
from erasestream.pipeline.stages.inference.isolation.protocol import Command, Outcome
from erasestream.pipeline.stages.inference.isolation.time_limits import limit_own_time
from erasestream.pipeline.stages.inference.isolation.worker_channel import Task, WorkerChannel
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter, session_options
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.clocks import Deadline
from erasestream.schemas.errors import Refused

_HIGHEST_DESCRIPTOR = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Child:
    """A running child; `life` is the end of a pipe that is closed when the child ends."""

    number: int
    pid: int
    life: int
    deadline: Deadline


class Zygote:
    """Forks, watches and kills children.  One thread."""

    def __init__(
        self,
        channel: WorkerChannel,
        segmenter: Segmenter,
        cut_out: CutOut,
        lacks: tuple[str, ...],
    ) -> None:
        self._channel = channel
        self._segmenter = segmenter
        self._cut_out = cut_out
        self._lacks = lacks
        self._children: dict[int, Child] = {}
        self._poll = select.poll()
        self._poll.register(channel.descriptor, select.POLLIN)

    def serve(self) -> None:
        """Serve tasks until the parent has ended; then no child is left."""
        while True:
            for descriptor, _ in self._poll.poll(self._timeout_ms()):
                if descriptor == self._channel.descriptor:
                    if not self._handle_command():
                        for child in list(self._children.values()):
                            self._reap(child)
                        return
                elif ended := self._children.get(descriptor):  # else just cancelled
                    self._end(ended, Outcome.COMPLETED)
            for child in [each for each in self._children.values() if each.deadline.has_passed]:
                self._end(child, Outcome.TIMED_OUT)

    def _timeout_ms(self) -> int | None:
        if not self._children:
            return None
        next_s = min(child.deadline.remaining_s for child in self._children.values())
        return int(next_s * 1000) + 1

    def _handle_command(self) -> bool:
        """Return False if the parent has ended."""
        task = self._channel.receive()
        if task is None:
            return False
        if task.command is Command.CANCEL:
            for child in [c for c in self._children.values() if c.number == task.number]:
                self._end(child, Outcome.COMPLETED)
        else:
            self._begin(task)
        return True

    def _begin(self, task: Task) -> None:
        try:
            pid, life = self._fork(task)
        except OSError:
            self._channel.report(Outcome.FORK_FAILED, task.number)
            return
        finally:
            for descriptor in task.memory:
                os.close(descriptor)
        deadline = Deadline(task.deadline_s, time.monotonic)
        self._children[life] = Child(number=task.number, pid=pid, life=life, deadline=deadline)
        self._poll.register(life, select.POLLIN)

    def _fork(self, task: Task) -> tuple[int, int]:
        """Return the child's id and its pipe.  Raises `OSError` if the system has no room."""
        zygote = os.getpid()
        life, end_of_child = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                self._run_child(task, zygote, end_of_child)
        except OSError:
            os.close(life)
            raise
        finally:
            os.close(end_of_child)
        return pid, life

    def _run_child(self, task: Task, zygote: int, end_of_child: int) -> None:
        """Run the task in the child.  Never returns into the zygote's code."""
        status = 1
        try:
            restrictions.end_with(zygote)
            buffers = JobBuffers(*task.memory)
            os.closerange(0, end_of_child)
            os.closerange(end_of_child + 1, _HIGHEST_DESCRIPTOR)
            restrictions.restrict_child(cpu_s=task.deadline_s, lacks=self._lacks)
            run_job(task.command, buffers, self._segmenter, self._cut_out, limit_own_time)
            status = 0
        finally:
            os._exit(status)

    def _end(self, child: Child, outcome: Outcome) -> None:
        status = self._reap(child)
        if outcome is Outcome.COMPLETED and status:
            timed_out = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
            outcome = Outcome.TIMED_OUT if timed_out else Outcome.CRASHED
        self._channel.report(outcome, child.number)

    def _reap(self, child: Child) -> int:
        """Kill and reap a child; return its status, which a child that is exiting keeps."""
        self._poll.unregister(child.life)
        del self._children[child.life]
        os.kill(child.pid, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        os.close(child.life)
        return status


def serve_alone(channel: WorkerChannel, segmenter: Segmenter, cut_out: CutOut) -> None:
    """Run every task in this process, which the parent kills at a deadline."""
    while (task := channel.receive()) is not None:
        with JobBuffers(*task.memory) as buffers:
            for descriptor in task.memory:
                os.close(descriptor)
            # Without a limit of its own: the parent's is the only one that ends this process.
            run_job(task.command, buffers, segmenter, cut_out, lambda *_: None)
        channel.report(Outcome.COMPLETED, task.number)


def main(argument: str, cut_out: CutOut | None = None) -> int:
    """Run a worker process.  `argument`: the `LaunchConfig`; `cut_out`: what to do with images."""
    config = LaunchConfig.model_validate_json(argument)
    cut_out = cut_out or partial(cut_out_once, limits=config.limits)
    channel = WorkerChannel(socket.socket(fileno=config.socket))
    restrictions.end_with(config.parent)
    # The terminal's Ctrl-C is for the parent, which ends its processes when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks = config.isolation is Isolation.PER_IMAGE
    lacks = restrictions.missing()
    try:
        restrictions.refuse_unless_enforced(config.enforcement, lacks)
        installed = Installed.read(config.model)
        segmenter = Segmenter(installed, options=session_options(reuse=not forks))
    except Refused as error:
        channel.report(Outcome.REFUSED, code=error.code)
        return 1
    preload()
    _redirect_standard_streams()
    which = Filter.ZYGOTE if forks else Filter.LONG_LIVED
    restrictions.restrict_worker_process(which, memory_bytes=config.memory_bytes, lacks=lacks)
    # Frozen objects are not touched, and so their pages not copied, by the children's collectors.
    gc.collect()
    gc.freeze()
    if forks:
        heap.occupy_heap()
    channel.report(Outcome.LOADED)
    if forks:
        Zygote(channel, segmenter, cut_out, lacks).serve()
    else:
        serve_alone(channel, segmenter, cut_out)
    return 0


def _redirect_standard_streams() -> None:
    """Discard what decoders print about a stranger's picture: it must not get into a log."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
