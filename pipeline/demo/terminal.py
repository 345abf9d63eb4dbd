"""Live progress on a terminal; on a pipe, its last state."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from erasestream.pipeline.demo.progress import Counted


class Terminal:
    """A `Viewer` with a bar for everything that is counted."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<17}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks = {
            what: self._progress.add_task(what, total=None, visible=False, start=False)
            for what in Counted
        }

    def say(self, line: str) -> None:
        """One line, above the bars."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, what: Counted, *, done: int, total: int) -> None:
        """Start, move or end a bar."""
        task = self._tasks[what]
        self._progress.start_task(task)
        self._progress.update(task, completed=done, total=total, visible=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
