"""Live progress on a terminal; on a pipe, only its last state."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from erasestream.pipeline.demo.progress import Counter


class Terminal:
    """A `ProgressListener` with a progress bar for each counter."""

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
            counter: self._progress.add_task(counter, total=None, visible=False, start=False)
            for counter in Counter
        }

    def log(self, line: str) -> None:
        """Print one line above the bars."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def count(self, counter: Counter, *, done: int, total: int) -> None:
        """Start, move or complete a bar."""
        task = self._tasks[counter]
        self._progress.start_task(task)
        self._progress.update(task, completed=done, total=total, visible=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Leave the bars as they are: what follows takes as long as the person likes."""
        self._progress.stop()
