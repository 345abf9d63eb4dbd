"""What the stage is compared with: loops without Kafka, one process per core, one thread each."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import psutil

from erasestream.pipeline.stages.inference.models.install.installer import install
from erasestream.pipeline.stages.inference.models.isnet import ISNET_SINGLE
from erasestream.pipeline.stages.inference.models.store import Installed, ModelStore
from tests.bench.running_pipeline import CACHE

WAIT_S = 600.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
HUGE_PAGES = MappingProxyType({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
"""What children have: memory in pages of 2 MB.  A loop that nobody tuned has not."""
REMBG = Path(__file__).parent / "peers" / "rembg"


class Round(NamedTuple):
    """How fast it was, its processor time, and the peak memory of the largest process."""

    images_per_s: float
    cpu_ms: float
    """For an image."""
    peak_mb: float
    """0: not asked."""


def bare(
    model: Installed,
    files: Sequence[Path],
    seen: Path,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Round:
    """Decode, onnxruntime, encode; the cut-outs are in `seen` afterwards."""
    command = [sys.executable, "-m", "tests.bench.bare_loop", str(model.folder), str(seen)]
    return _raced(command, files, settings)


def rembg(python: Path, weights: Path, files: Sequence[Path], seen: Path) -> Round:
    """Rembg with these weights, which lie in `weights` under its own name for them."""
    command = [str(python), str(REMBG / "loop.py"), str(weights), str(seen)]
    # Its own check is against weights that it would fetch.
    return _raced(command, files, {"U2NET_HOME": str(weights), "MODEL_CHECKSUM_DISABLED": "1"})


def rembg_python() -> Path:
    """The python of rembg's environment, made and filled with pinned packages if need be."""
    folder, wanted = CACHE / "peers" / "rembg", (REMBG / "requirements.txt").read_text()
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        sys.stderr.write("rembg: about 130 MB to fetch, 600 MB on disk ...\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
        subprocess.run([*pip, "--requirement", str(REMBG / "requirements.txt")], check=True)
        stamp.write_text(wanted)
    return python


def rembg_weights(folder: Path) -> Path:
    """A folder with IS-Net in single precision, under the name that rembg has for it."""
    single = install(ModelStore(CACHE / "models"), manifest=ISNET_SINGLE)
    folder.mkdir()
    (folder / "isnet-general-use.onnx").symlink_to(single.path.resolve())
    return folder


def _raced(command: Sequence[str], files: Sequence[Path], settings: Mapping[str, str]) -> Round:
    """All processes begin at one word; the slowest ends the round.  Loading is not counted."""
    processes = len(os.sched_getaffinity(0))
    shares = [share for n in range(processes) if (share := files[n::processes])]
    environment = {**os.environ, **ONE_THREAD, **settings}
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, *map(str, share)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            for share in shares
        ]
        for process in running:
            stack.callback(process.kill)
        for process in running:
            assert _line(process) == "ready"
        before_s, started = _cpu_s(running), time.monotonic()
        for process in running:
            _go(process)
        peaks = [float(_line(process)) for process in running]
        elapsed_s, cpu_s = time.monotonic() - started, _cpu_s(running) - before_s
        for process in running:
            _go(process)
        for process in running:
            assert process.wait(WAIT_S) == 0
    return Round(len(files) / elapsed_s, cpu_s * 1000 / len(files), max(peaks))


def _cpu_s(processes: Sequence["subprocess.Popen[str]"]) -> float:
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()
