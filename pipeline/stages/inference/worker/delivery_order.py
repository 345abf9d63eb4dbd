"""The order in which results are delivered: within a partition, that of their uploads.

* Each task delivers after the one that was appended before it.
* After `rewind`, the next task delivers after the one whose delivery has begun, if any: tasks
  between them are cancelled.
"""

import asyncio
from collections.abc import Hashable

_Task = asyncio.Task[None]


class DeliveryOrder:
    """The last task of each partition, and the one whose delivery has begun."""

    def __init__(self) -> None:
        self._last: dict[Hashable, _Task] = {}
        self._delivering: dict[Hashable, _Task] = {}

    def last(self, key: Hashable) -> _Task | None:
        """Return the task after which the next one delivers."""
        return self._last.get(key)

    def append(self, key: Hashable, task: _Task) -> None:
        """Put a task behind the last one."""
        self._last[key] = task

    def begin_delivery(self, key: Hashable, task: _Task) -> None:
        """Note that the delivery of a task has begun."""
        self._delivering[key] = task

    def rewind(self, key: Hashable) -> None:
        """Forget the tasks whose delivery has not begun."""
        self._last.pop(key, None)
        if delivering := self._delivering.get(key):
            self._last[key] = delivering

    def remove(self, key: Hashable, task: _Task) -> None:
        """Forget a task that is done."""
        for tasks in (self._delivering, self._last):
            if tasks.get(key) is task:
                del tasks[key]
