"""Records of one partition that their reader returned, and the passes that read them again.  Pure.

Rules:

* All returned records that are due are read again in one pass.  The next pass begins only after a
  new record was read, or nothing was left to read: a record that is returned again and again
  delays the others, and does not stop them.
* A record that is returned during a pass waits for a later one.
"""


class ReturnedRecords:
    """Offsets to be read again, in the current pass or a later one."""

    def __init__(self) -> None:
        self.awaited: set[int] = set()
        """Returned records that the current pass reads."""
        self._due_s: dict[int, float] = {}
        """When each other one is to be read again."""
        self._is_rereading = False

    def return_at(self, offset: int, due_s: float) -> None:
        """Read a record again at this time."""
        self.awaited.discard(offset)
        self._due_s[offset] = due_s

    def forget(self, offset: int) -> None:
        """Do not read a record again."""
        self._due_s.pop(offset, None)
        self.awaited.discard(offset)

    def begin_pass(self, now_s: float) -> int | None:
        """Return the offset to seek to if records are due, and begin to read them."""
        if self._is_rereading:
            return None
        due = [offset for offset, due_s in self._due_s.items() if due_s <= now_s]
        if not due:
            return None
        for offset in due:
            del self._due_s[offset]
        self.awaited.update(due)
        self._is_rereading = True
        return min(self.awaited)

    def end_pass(self) -> None:
        """Let the next pass begin."""
        self._is_rereading = False
