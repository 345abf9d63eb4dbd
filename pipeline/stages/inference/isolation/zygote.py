"""The process that has the model, and forks a child for each image.

It never sees a picture itself, nor runs the model: what it passes on to a child is what was
there before the first picture.  Memory of a task comes over the socket, goes to the child, and
is closed here at once.  A child that ends, closes its end of a pipe, or runs into its deadline
is killed and waited for before its end is reported: nobody writes into an answer any more.

Started with exec, never by a fork of a process with threads; ends with the worker.
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

from erasestream.pipeline.stages.inference import heap
from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.isolation import protocol
from erasestream.pipeline.stages.inference.isolation.job import JobBuffers, Work, do
from erasestream.pipeline.stages.inference.isolation.launch_config import LaunchConfig
from erasestream.pipeline.stages.inference.isolation.preload import preload
from erasestream.pipeline.stages.inference.isolation.protocol import Command, Outcome
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter, session_options
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.pipeline.stages.inference.sandbox import restrictions
from erasestream.pipeline.stages.inference.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.sandbox.seccomp import Filter
from erasestream.schemas.errors import Code, Refused

_HIGHEST_DESCRIPTOR = 1 << 20
_DESCRIPTORS_OF_A_TASK = 2


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the worker wants, with the memory for it (none if it wants an end)."""

    what: Command
    number: int
    deadline_s: float
    memory: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A child at work: `life` ends when it does."""

    number: int
    pid: int
    life: int
    ends_at: float


class WorkerChannel:
    """The socket to the worker."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self.descriptor = ours.fileno()

    def take(self) -> Task | None:
        """The next task; None if the worker is gone."""
        head, memory, _, _ = socket.recv_fds(
            self._socket, protocol.TASK.size, _DESCRIPTORS_OF_A_TASK
        )
        if len(head) < protocol.TASK.size:
            return None
        what, number, deadline_s = protocol.TASK.unpack(head)
        return Task(what=Command(what), number=number, deadline_s=deadline_s, memory=tuple(memory))

    def say(self, how: Outcome, number: int = 0, code: Code | None = None) -> None:
        """Report."""
        self._socket.sendmsg([protocol.REPORT.pack(how, number), (code or "").encode()])


class Zygote:
    """Forks, watches and ends children.  One thread, for ever."""

    def __init__(
        self, line: WorkerChannel, segmenter: Segmenter, work: Work, lacks: tuple[str, ...]
    ) -> None:
        self._line = line
        self._segmenter = segmenter
        self._work = work
        self._lacks = lacks
        self._children: dict[int, Running] = {}
        self._poll = select.poll()
        self._poll.register(line.descriptor, select.POLLIN)

    def serve(self) -> None:
        """Until the worker is gone; then no child is left."""
        while True:
            for descriptor, _ in self._poll.poll(self._patience_ms()):
                if descriptor == self._line.descriptor:
                    if not self._handle_command():
                        for child in list(self._children.values()):
                            self._reap(child)
                        return
                elif ended := self._children.get(descriptor):  # else cancelled a moment ago
                    self._end(ended, Outcome.ENDED)
            now = time.monotonic()
            for child in [each for each in self._children.values() if each.ends_at <= now]:
                self._end(child, Outcome.EXPIRED)

    def _patience_ms(self) -> int | None:
        if not self._children:
            return None
        next_end = min(child.ends_at for child in self._children.values())
        return max(0, int((next_end - time.monotonic()) * 1000) + 1)

    def _handle_command(self) -> bool:
        task = self._line.take()
        if task is None:
            return False
        if task.what is Command.CANCEL:
            for child in [c for c in self._children.values() if c.number == task.number]:
                self._end(child, Outcome.ENDED)
        else:
            self._begin(task)
        return True

    def _begin(self, task: Task) -> None:
        try:
            pid, life = self._fork(task)
        except OSError:
            self._line.say(Outcome.NOT_BEGUN, task.number)
            return
        finally:
            for descriptor in task.memory:
                os.close(descriptor)
        ends_at = time.monotonic() + task.deadline_s
        self._children[life] = Running(number=task.number, pid=pid, life=life, ends_at=ends_at)
        self._poll.register(life, select.POLLIN)

    def _fork(self, task: Task) -> tuple[int, int]:
        """The child's id, and what ends with it.  Raises `OSError` if the system has no room."""
        us = os.getpid()
        life, its_end = os.pipe()
        try:
            pid = os.fork()
            if pid == 0:
                self._run_child(task, us, its_end)
        except OSError:
            os.close(life)
            raise
        finally:
            os.close(its_end)
        return pid, life

    def _run_child(self, task: Task, parent: int, its_end: int) -> None:
        """In the child.  Never returns: nothing of the zygote's is the child's to do."""
        status = 1
        try:
            restrictions.end_with(parent)
            desk = JobBuffers(*task.memory)
            os.closerange(0, its_end)
            os.closerange(its_end + 1, _HIGHEST_DESCRIPTOR)
            restrictions.restrict_child(cpu_s=task.deadline_s, lacks=self._lacks)
            do(task.what, desk, self._segmenter, self._work)
            status = 0
        finally:
            os._exit(status)

    def _end(self, child: Running, how: Outcome) -> None:
        status = self._reap(child)
        if how is Outcome.ENDED and status:
            how = Outcome.CRASHED
        self._line.say(how, child.number)

    def _reap(self, child: Running) -> int:
        """Its status; one that is ending already keeps its own, whatever it is sent."""
        self._poll.unregister(child.life)
        del self._children[child.life]
        os.kill(child.pid, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        os.close(child.life)
        return status


def serve_alone(line: WorkerChannel, segmenter: Segmenter, work: Work) -> None:
    """Do every task in this process, which the worker kills at a deadline."""
    while (task := line.take()) is not None:
        with JobBuffers(*task.memory) as desk:
            for descriptor in task.memory:
                os.close(descriptor)
            do(task.what, desk, segmenter, work)
        line.say(Outcome.ENDED, task.number)


def main(argument: str, work: Work | None = None) -> int:
    """`argument`: the `LaunchConfig`.  `work`: what is done with an image."""
    setup = LaunchConfig.model_validate_json(argument)
    work = work or partial(cut_out_once, limits=setup.limits)
    line = WorkerChannel(socket.socket(fileno=setup.socket))
    restrictions.end_with(setup.parent)
    # The terminal's Ctrl-C is for the worker, which ends its processes when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks = setup.isolation is Isolation.PER_IMAGE
    lacks = restrictions.missing()
    try:
        restrictions.refuse_unless_enforced(setup.enforcement, lacks)
        segmenter = Segmenter(Installed.read(setup.model), options=session_options(reuse=not forks))
    except Refused as error:
        line.say(Outcome.REFUSED, code=error.code)
        return 1
    preload()
    _fall_silent()
    which = Filter.HOST if forks else Filter.LONG_LIVED
    restrictions.restrict_host(which, memory_bytes=setup.memory_bytes, lacks=lacks)
    # What lies there from now on is not touched, and so not copied, by the children's collectors.
    gc.collect()
    gc.freeze()
    if forks:
        heap.occupy_heap()
    line.say(Outcome.LOADED)
    if forks:
        Zygote(line, segmenter, work, lacks).serve()
    else:
        serve_alone(line, segmenter, work)
    return 0


def _fall_silent() -> None:
    """What a decoder has to say about a stranger's picture must not get into a log."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
