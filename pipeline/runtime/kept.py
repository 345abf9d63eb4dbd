"""A part of a stage that outlives it: the next one, with a renewed certificate, continues with it.

For what takes long to open, and whose clients renew their certificates themselves.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Opens a part once, when a stage first needs it.  One thread."""

    def __init__(self, open_part: Callable[[], AbstractContextManager[T]]) -> None:
        self._open = open_part
        self._opened = ExitStack()
        self._parts: list[T] = []

    def get(self) -> T:
        """Return the part.  Raises what opening it raises, and opens it then next time."""
        if not self._parts:
            self._parts.append(self._opened.enter_context(self._open()))
        return self._parts[0]

    def close(self) -> None:
        """Close the part, if it was opened."""
        self._opened.close()
