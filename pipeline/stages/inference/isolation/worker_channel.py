"""The worker process's end of the socket: tasks come in, reports go out."""

import socket
from dataclasses import dataclass

from erasestream.pipeline.stages.inference.isolation import protocol
from erasestream.pipeline.stages.inference.isolation.protocol import Command, Outcome
from erasestream.schemas.errors import Code

_DESCRIPTORS_OF_A_TASK = 2


@dataclass(frozen=True, kw_only=True)
class Task:
    """A command of the parent, with the memory for it (none to cancel a task)."""

    command: Command
    number: int
    deadline_s: float
    memory: tuple[int, ...]


class WorkerChannel:
    """The socket to the parent."""

    def __init__(self, socket_to_parent: socket.socket) -> None:
        self._socket = socket_to_parent
        self.descriptor: int = socket_to_parent.fileno()

    def receive(self) -> Task | None:
        """Return the next task, None if the parent has ended."""
        message, memory, _, _ = socket.recv_fds(
            self._socket, protocol.TASK.size, _DESCRIPTORS_OF_A_TASK
        )
        if len(message) < protocol.TASK.size:
            return None
        command, number, deadline_s = protocol.TASK.unpack(message)
        return Task(
            command=Command(command), number=number, deadline_s=deadline_s, memory=tuple(memory)
        )

    def report(self, outcome: Outcome, number: int = 0, code: Code | None = None) -> None:
        """Report the outcome of a task, or, with number 0, of the start."""
        self._socket.sendmsg([protocol.REPORT.pack(outcome, number), (code or "").encode()])
