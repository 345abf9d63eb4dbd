"""Progress of the demo, for a terminal or a test."""

from enum import StrEnum
from typing import Protocol


class Counter(StrEnum):
    """A number that grows while the demo runs."""

    READY = "stages ready"
    SENT = "uploads sent"
    RECEIVED = "results received"
    STORED = "objects stored"


class ProgressListener(Protocol):
    """Receives the progress of the demo."""

    def log(self, line: str) -> None:
        """Receive one line about the current step."""

    def count(self, counter: Counter, *, done: int, total: int) -> None:
        """Receive the value of a counter."""
