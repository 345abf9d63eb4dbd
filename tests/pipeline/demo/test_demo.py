"""The whole demo, with a small model: it holds, it ends, and it leaves nothing running."""

from pathlib import Path

import psutil
import pytest

from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.progress import Counted
from erasestream.pipeline.demo.run import LOGS, RESULTS, STACK, Outcome, run_demo
from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.errors import Code, Refused
from tests.flow.pictures import noise, photo
from tests.paths import CACHE
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

MODEL = "tiny"


class Watcher:
    """Notes what it is told; may interrupt at a line, as Ctrl-C would."""

    def __init__(self, *, interrupt_at: str = "never") -> None:
        self.lines: list[str] = []
        self.shown: dict[Counted, tuple[int, int]] = {}
        self._interrupt_at = interrupt_at

    def say(self, line: str) -> None:
        """Note a line."""
        self.lines.append(line)
        if line.startswith(self._interrupt_at):
            raise KeyboardInterrupt

    def show(self, what: Counted, *, done: int, total: int) -> None:
        """Note how far something is."""
        self.shown[what] = (done, total)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the small model."""
    folder = tmp_path_factory.mktemp("models")
    build_tiny_model(folder)
    return folder


def photos() -> list[Photo]:
    """Two small photos."""
    return [
        Photo("bright.png", "image/png", noise()),
        Photo("product.jpg", "image/jpeg", photo(96, 64)),
    ]


def run(output: Path, models: Path, watcher: Watcher, model: str = MODEL) -> Outcome:
    """Run the demo with them."""
    return run_demo(
        photos=photos(), output=output, cache=CACHE, model=model, models=models, viewer=watcher
    )


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that was started with this folder in its command or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(folder) in word for word in words):
            found.append(process)
    return found


def runs(process: psutil.Process) -> bool:
    """Whether it does; one that has ended and was not asked how does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_demo_holds_and_leaves_only_what_it_shows(tmp_path: Path, models: Path) -> None:
    """Every check holds; report, pictures and logs are there, processes and topics are not."""
    output, watcher = tmp_path / "demo", Watcher()
    outcome = run(output, models, watcher)
    assert [check for check in outcome.checks if not check.holds] == []
    assert watcher.shown == {
        Counted.READY: (3, 3),
        Counted.SENT: (6, 6),
        Counted.TAKEN: (6, 6),
        Counted.STORED: (4, 4),
    }
    page = outcome.report.read_text()
    assert f"All {len(outcome.checks)} checks hold." in page
    assert page.count("also retained") == 2
    assert page.count("ephemeral only") == 4
    saved = sorted(path.name for path in (output / RESULTS).rglob("*.*"))
    assert saved == [
        "bright-0001.png", "bright-0003.png", "bright-0005.webp", "bright.png",
        "product-0002.png", "product-0004.png", "product-0006.webp", "product.jpg",
    ]  # fmt: skip
    assert sorted(path.name for path in output.iterdir()) == [LOGS, "report.html", RESULTS]
    assert processes_of(output / STACK) == []
    assert Stack(output / STACK, cache=CACHE).running() == {}


def test_interrupted_demo_stops_everything(tmp_path: Path, models: Path) -> None:
    """Ctrl-C with everything up: no process is left, and no folder with records or keys."""
    output = tmp_path / "demo"
    seen: list[psutil.Process] = []

    class Interrupting(Watcher):
        def say(self, line: str) -> None:
            if line.startswith("Sending"):
                seen.extend(processes_of(output / STACK))
            super().say(line)

    with pytest.raises(KeyboardInterrupt):
        run(output, models, Interrupting(interrupt_at="Sending"))
    assert len(seen) >= 5  # broker, bucket and three stages
    assert not any(runs(process) for process in seen)
    assert [path.name for path in output.iterdir()] == [LOGS]


def test_missing_model_is_said_before_anything_starts(tmp_path: Path, models: Path) -> None:
    """Nothing is made, and the sentence names the command that installs it."""
    with pytest.raises(Refused, match="erasestream model install") as refused:
        run(tmp_path / "demo", models, Watcher(), model="another")
    assert refused.value.code is Code.MISSING_MODEL
    assert not (tmp_path / "demo").exists()


def test_folder_of_somebody_else_is_left_alone(tmp_path: Path, models: Path) -> None:
    """A folder `stack` that no demo made is not deleted."""
    theirs = tmp_path / STACK / "work.txt"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with pytest.raises(Refused, match="not from a demo"):
        run(tmp_path, models, Watcher())
    assert theirs.read_text() == "mine"
