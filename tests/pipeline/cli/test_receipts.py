"""`erasestream receipt verify` prints what a receipt proves, or why it proves nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from erasestream.pipeline.cli.app import app_for
from erasestream.schemas.errors import ProofRefused
from tests.sinks.log.sample_log import AUDITOR, KEY, STRANGER, SampleLog, signed
from tests.sinks.log.test_receipt import EXTRA, LOG, receipt


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "log.pub").write_text(f"{KEY.public}\n")
    (tmp_path / "receipt").write_bytes(receipt().format())
    return tmp_path


def verify(files: Path, *options: str, log: str | None = None) -> Result:
    keys = ["--log-key", log or str(files / "log.pub"), "--auditor-key", str(AUDITOR.public)]
    return CliRunner().invoke(
        app_for(["receipt"]), ["receipt", "verify", str(files / "receipt"), *keys, *options]
    )


def test_a_receipt_that_holds_is_printed(files: Path) -> None:
    done = verify(files)
    assert done.exit_code == 0
    assert "kind: erasure" in done.output
    assert "account: acct-7 of shop" in done.output
    assert "leaf 5 of 9 in log.example/erasestream, cosigned by auditor.example" in done.output


def test_each_reason_is_a_sentence(files: Path) -> None:
    (files / "seen").write_bytes(signed(LOG.checkpoint(12)))
    forked = LOG.prove(5, 9, EXTRA.encode())._replace(checkpoint=signed(SampleLog(9).checkpoint(9)))
    (files / "forked").write_bytes(forked.format())
    for options, log, reason in (
        (("--seen", str(files / "seen")), None, "rewound from 12 leaves to 9"),
        (("--seen", str(files / "forked")), None, "two trees of 9 leaves"),
        ((), str(STRANGER.public), "no signature"),
    ):
        done = verify(
            files, *(str(files / o) if o in {"seen", "forked"} else o for o in options), log=log
        )
        assert isinstance(done.exception, ProofRefused)
        assert reason in done.exception.sentence
