"""The whole demo with a small model: all checks hold, and nothing is left running."""

import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from erasestream.pipeline.demo.output_folder import LOGS, RESULTS, STACK
from erasestream.pipeline.demo.photos import Photo
from erasestream.pipeline.demo.progress import Counter
from erasestream.pipeline.demo.run import Outcome, Serving, run_demo
from erasestream.pipeline.demo.scenario import NOT_OPTED_IN
from erasestream.pipeline.demo.visitors import Invitation
from erasestream.pipeline.devstack.stack import Stack
from erasestream.schemas.errors import Code, Refused
from erasestream.sinks.log.key_files import public_key
from erasestream.sinks.log.receipt import VerifiedReceipt, verify_receipt
from tests.flow.pictures import noise, photo
from tests.flow.waiting import eventually
from tests.paths import CACHE
from tests.pipeline.stages.inference.tiny_model import build_tiny_model

MODEL = "tiny"
TIMEOUT_S = 180


class Recorder:
    """Records the progress; may raise at a line, as Ctrl-C would."""

    def __init__(self, *, interrupt_at: str = "never") -> None:
        self.lines: list[str] = []
        self.counts: dict[Counter, tuple[int, int]] = {}
        self._interrupt_at = interrupt_at

    def log(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(self._interrupt_at):
            raise KeyboardInterrupt

    def count(self, counter: Counter, *, done: int, total: int) -> None:
        self.counts[counter] = (done, total)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a store with the small model."""
    folder = tmp_path_factory.mktemp("models")
    build_tiny_model(folder)
    return folder


def photos() -> list[Photo]:
    return [
        Photo("bright.png", "image/png", noise()),
        Photo("product.jpg", "image/jpeg", photo(96, 64)),
    ]


def run(
    output: Path,
    models: Path,
    listener: Recorder,
    model: str = MODEL,
    serve: Callable[[Serving], None] = lambda _serving: None,
) -> Outcome:
    return run_demo(
        photos=photos(),
        output=output,
        cache=CACHE,
        model=model,
        models=models,
        progress=listener,
        serve=serve,
    )


class Visit:
    """A person who uses the gateway at the end of the demo."""

    def __init__(self) -> None:
        self.content_type = ""
        self.verified: VerifiedReceipt | None = None

    def __call__(self, serving: Serving) -> None:
        serving.check()
        serving.issue_receipts()
        invitation = serving.invitation
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(invitation.authority)
            self._send(session, invitation)
            self._decide(session, invitation)
        serving.check()

    def _send(self, session: requests.Session, invitation: Invitation) -> None:
        cutout = answered(
            lambda: session.post(
                f"{invitation.url}/v2",
                files={"image_file": invitation.photo.read_bytes()},
                headers={"x-api-key": invitation.image_key},
                timeout=TIMEOUT_S,
            )
        )
        self.content_type = cutout.headers["Content-Type"]

    def _decide(self, session: requests.Session, invitation: Invitation) -> None:
        """Switch on, and verify the receipt of that decision."""
        account = f"{invitation.url}/account"
        answered(
            lambda: session.post(
                f"{account}/sign-in", data={"key": invitation.owner_key}, timeout=TIMEOUT_S
            )
        )
        asked = answered(lambda: session.get(f"{account}/opt-in", timeout=TIMEOUT_S)).text
        fields = dict(re.findall(r'name="(csrf|notice)" value="([^"]+)"', asked))
        answered(lambda: session.post(f"{account}/opt-in", data=fields, timeout=TIMEOUT_S))
        link = eventually(
            "the page has the receipt",
            lambda: re.search(
                r"/account/receipts/[^/]+\.tlog-proof",
                answered(lambda: session.get(account, timeout=TIMEOUT_S)).text,
            ),
            poll_s=1,
        )
        receipt = answered(lambda: session.get(f"{invitation.url}{link[0]}", timeout=TIMEOUT_S))
        keys = public_key(invitation.log_key), public_key(invitation.auditor_key)
        self.verified = verify_receipt(receipt.content, *keys)


def answered(ask: Callable[[], requests.Response]) -> requests.Response:
    """Return the answer, once the service has time for it, as clients repeat what is 503 or 504."""

    def ask_again() -> requests.Response | None:
        answer = ask()
        if answer.status_code in (503, 504):
            return None
        assert answer.ok, (answer.status_code, answer.text)
        return answer

    return eventually("an answer", ask_again, poll_s=1)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that have this folder in their command or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(folder) in word for word in words):
            found.append(process)
    return found


def is_running(process: psutil.Process) -> bool:
    """Return whether a process is running, and not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_all_checks_hold_and_only_the_output_is_left(tmp_path: Path, models: Path) -> None:
    """Report, pictures and logs are left, processes and topics are not.

    Before they are stopped, a visitor of the gateway gets a cut-out, and the receipt of a decision.
    """
    output, listener, visit = tmp_path / "demo", Recorder(), Visit()
    outcome = run(output, models, listener, serve=visit)
    assert visit.content_type == "image/png"
    assert visit.verified is not None
    assert visit.verified.extra.account == NOT_OPTED_IN.account
    assert [check for check in outcome.checks if not check.holds] == []
    assert listener.counts == {
        Counter.READY: (5, 5),
        Counter.SENT: (6, 6),
        Counter.RECEIVED: (6, 6),
        Counter.STORED: (4, 4),
    }
    page = outcome.report.read_text()
    assert f"All {len(outcome.checks)} checks hold." in page
    assert page.count("also retained") == 2
    assert page.count("ephemeral only") == 4
    assert page.count('alt="The account page.') == 2
    saved = sorted(path.name for path in (output / RESULTS).rglob("*.*"))
    assert saved == [
        "bright-0001.png", "bright-0003.png", "bright-0005.webp", "bright.png",
        "product-0002.png", "product-0004.png", "product-0006.webp", "product.jpg",
    ]  # fmt: skip
    assert sorted(path.name for path in output.iterdir()) == [LOGS, "report.html", RESULTS]
    # A process of a killed stage ends a moment after it.
    eventually("all processes have ended", lambda: not processes_of(output / STACK))
    assert Stack(output / STACK, cache=CACHE).running() == {}


def test_an_interrupted_demo_stops_everything(tmp_path: Path, models: Path) -> None:
    """With everything started: no process is left, and no folder with records or keys."""
    output = tmp_path / "demo"
    seen: list[psutil.Process] = []

    class Interrupting(Recorder):
        def log(self, line: str) -> None:
            if line.startswith("Sending"):
                seen.extend(processes_of(output / STACK))
            super().log(line)

    with pytest.raises(KeyboardInterrupt):
        run(output, models, Interrupting(interrupt_at="Sending"))
    assert len(seen) >= 8  # broker, bucket, key service and five stages
    eventually("they have ended", lambda: not any(map(is_running, seen)))
    assert [path.name for path in output.iterdir()] == [LOGS]


def test_a_missing_model_is_refused_before_anything_starts(tmp_path: Path, models: Path) -> None:
    """The error names the command that installs it."""
    with pytest.raises(Refused, match="erasestream model install") as refused:
        run(tmp_path / "demo", models, Recorder(), model="another")
    assert refused.value.code is Code.MISSING_MODEL
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_is_not_from_a_demo_is_not_deleted(tmp_path: Path, models: Path) -> None:
    existing = tmp_path / STACK / "work.txt"
    existing.parent.mkdir()
    existing.write_text("mine")
    with pytest.raises(Refused, match="not from a demo"):
        run(tmp_path, models, Recorder())
    assert existing.read_text() == "mine"
