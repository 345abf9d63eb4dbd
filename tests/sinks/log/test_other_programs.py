"""Programs of others accept what ours writes, and refuse what ours refuses.

`tests/clients/tlog` uses transparency-dev's Go modules; tlog-scales is a Python package.
"""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tiles import leaf_hash

from erasestream.sinks.log.tiles import TiledTree
from tests.clients.tools import tlog_checker
from tests.sinks.log.sample_log import AUDITOR, KEY, SampleLog, signed

SIZE, OLD = 70_000, 65_537
INDICES = (0, 255, 256, 65_535, 65_536, SIZE - 1)
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def log() -> SampleLog:
    return SampleLog(OLD, SIZE)


@pytest.fixture(scope="module")
def folder(log: SampleLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the log as plain files."""
    folder = tmp_path_factory.mktemp("log")
    for name, data in log.tiles.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "checkpoint").write_bytes(signed(log.checkpoint(SIZE)))
    return folder


def check_with_go(**members: Any) -> tuple[int, str]:
    """Return the status of the Go program, and what it printed."""
    keys = {"LogKey": str(KEY.public), "CosignerKey": str(AUDITOR.public)}
    done = subprocess.run(
        [tlog_checker()],
        input=json.dumps(keys | members),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stdout + done.stderr


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def growth(log: SampleLog, old: int, new: int) -> dict[str, Any]:
    return {
        "Old": old,
        "New": new,
        "OldRoot": b64(log.checkpoint(old).root),
        "NewRoot": b64(log.checkpoint(new).root),
        "Hashes": [b64(each) for each in log.grew(old, new)],
    }


def test_go_accepts_proofs_growth_and_tiles(log: SampleLog, folder: Path) -> None:
    proofs = [
        {"Leaf": b64(f"leaf {n}".encode()), "File": b64(log.prove(n, SIZE, b"extra").format())}
        for n in INDICES
    ]
    status, printed = check_with_go(
        Proofs=proofs, Consistency=[growth(log, OLD, SIZE)], Folder=str(folder)
    )
    assert (status, printed.split()) == (0, [str(SIZE)] * (len(INDICES) + 1))


def test_go_refuses_a_forged_leaf_and_growth_that_was_not(log: SampleLog) -> None:
    file = b64(log.prove(7, SIZE).format())
    assert check_with_go(Proofs=[{"Leaf": b64(b"leaf 8"), "File": file}])[0] == 1
    forked = growth(log, OLD, SIZE) | {"OldRoot": b64(bytes(32))}
    assert check_with_go(Consistency=[forked])[0] == 1


def test_tlog_scales_reads_the_folder(log: SampleLog, folder: Path) -> None:
    reader = TilesReader(LocalBackend(folder))
    checkpoint = reader.get_checkpoint()
    for key in (KEY.public, AUDITOR.public):
        checkpoint.verify(Vkey.from_string(str(key)))
    assert (checkpoint.size, checkpoint.root_hash) == (SIZE, reader.calculate_root_hash())
    for index in INDICES:
        entry = reader.get_entry(index)
        assert entry == f"leaf {index}".encode()
        proof = reader.get_inclusion_proof(index, SIZE)
        proof.check(leaf_hash(entry), checkpoint.root_hash)
        assert proof.node_hashes == list(log.prove(index, SIZE).hashes)
    grown = reader.get_consistency_proof(OLD, SIZE)
    grown.check(TiledTree(log.read, OLD).root(), checkpoint.root_hash)
    assert grown.node_hashes == log.grew(OLD, SIZE)
