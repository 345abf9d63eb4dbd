"""A copy of the log is complete, only grows, and shows whatever was changed in it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from typer.testing import CliRunner, Result

from erasestream.pipeline.cli.app import app_for
from erasestream.schemas.errors import NotFound, ProofRefused
from erasestream.sinks.buckets.folder_store import FolderStore
from erasestream.sinks.log.cosigner import Cosigner
from erasestream.sinks.log.log_folder import copy_log, open_folder, verify_leaves
from erasestream.sinks.log.log_reader import LogReader, SignedTree
from erasestream.sinks.log.log_writer import LogWriter
from erasestream.sinks.log.tiles import tile_name
from tests.sinks.log.sample_log import AUDITOR, KEY, SIGNED_S
from tests.sinks.log.test_log_writer import leaves


class Published:
    """A log, its auditor, which believes all leaves, and a copy."""

    def __init__(self, folder: Path) -> None:
        self.copy = folder / "copy"
        store = FolderStore(folder / "log")
        self.writer = LogWriter(store=store, key=KEY)
        self.reader = LogReader(store, KEY.public)
        self.cosigner = Cosigner(
            store=store,
            log=KEY.public,
            key=AUDITOR,
            look=lambda _: None,
            now=lambda: datetime.fromtimestamp(SIGNED_S, UTC),
        )

    def grow(self, size: int) -> SignedTree:
        """Append, cosign and copy; return what was copied."""
        self.writer.append(leaves(self.writer.size, size), {})
        self.cosigner.cosign()
        newest = self.reader.newest(AUDITOR.public)
        assert newest
        copy_log(newest, self.reader.read, self.copy, KEY.public)
        return newest

    def verify(self) -> None:
        copy = open_folder(self.copy, KEY.public, AUDITOR.public)
        assert copy
        verify_leaves(copy)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


def test_a_copy_grows_and_other_programs_read_it(published: Published) -> None:
    for size in (3, 300, 700):
        published.grow(size)
        published.verify()
    reader = TilesReader(LocalBackend(published.copy))
    assert reader.get_checkpoint().size == 700
    assert reader.calculate_root_hash() == published.reader.newest().checkpoint.root
    assert not any("batches" in path.name for path in published.copy.iterdir())


def test_a_copy_of_another_or_older_log_is_left_as_it_was(
    published: Published, tmp_path: Path
) -> None:
    old = published.grow(300)
    published.grow(301)
    with pytest.raises(ProofRefused, match="rewound from 301 leaves to 300"):
        copy_log(old, published.reader.read, published.copy, KEY.public)
    other = Published(tmp_path / "other")
    other.writer.append(leaves(1, 400), {})
    newest = other.reader.newest()
    assert newest
    with pytest.raises(ProofRefused, match="no continuation"):
        copy_log(newest, other.reader.read, published.copy, KEY.public)
    published.verify()


@pytest.mark.parametrize(
    "name",
    [
        tile_name(0, 0),
        tile_name(0, 1, 44),
        tile_name(1, 0, 1),
        tile_name("entries", 0),
        "checkpoint",
    ],
)
def test_each_changed_file_is_noticed(published: Published, name: str) -> None:
    published.grow(300)
    path = published.copy / name
    raw = bytearray(path.read_bytes())
    raw[20] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ProofRefused):
        published.verify()
    path.unlink()
    if name == "checkpoint":
        assert open_folder(published.copy, KEY.public) is None
    else:
        with pytest.raises(NotFound):
            published.verify()


def test_the_auditor_does_not_cosign_a_log_that_was_replaced(tmp_path: Path) -> None:
    published = Published(tmp_path)
    published.grow(5)
    for path in (tmp_path / "log" / "log").iterdir():
        if path.name != "cosignatures":
            path.rename(tmp_path / path.name)
    with pytest.raises(ProofRefused, match="not those of its checkpoint"):
        published.cosigner.cosign()
    writer = LogWriter(store=FolderStore(tmp_path / "log"), key=KEY)
    writer.append(leaves(1, 9), {})
    with pytest.raises(ProofRefused):
        published.cosigner.cosign()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app_for(["log"]), ["log", *arguments])


def test_the_command_verifies_a_copy_since_an_older_checkpoint(
    published: Published, tmp_path: Path
) -> None:
    (tmp_path / "old").write_bytes(published.grow(3).signed)
    published.grow(300)
    keys = ["--log-key", str(KEY.public), "--auditor-key", str(AUDITOR.public)]
    done = run("verify", str(published.copy), *keys, "--since", str(tmp_path / "old"))
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "grown: from 3 leaves in old",
        "verified: 300 leaves in log.example/erasestream",
    ]
    assert isinstance(run("verify", str(tmp_path), *keys).exception, NotFound)


def test_keys_are_made_once(tmp_path: Path) -> None:
    made = run("keys", str(tmp_path / "new"), "--name", "log.example", "--auditor", "a.example")
    assert 'log_key = "log.example+' in made.output
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {0o600}
    again = run("keys", str(tmp_path / "new"), "--name", "log.example", "--auditor", "a.example")
    assert "never change" in str(again.exception)
    odd = run("keys", str(tmp_path / "odd"), "--name", "log example", "--auditor", "a.example")
    assert "space" in str(odd.exception)
