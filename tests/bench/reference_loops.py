"""Loops to compare the stage with: no Kafka, one process per core, one thread each."""

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
from tests.paths import CACHE

WAIT_S = 600.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
HUGE_PAGES = MappingProxyType({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})
"""Memory in pages of 2 MB, which the stage's children have and an untuned loop has not."""
REMBG = Path(__file__).parent / "peers" / "rembg"


class LoopRound(NamedTuple):
    """Speed, CPU time, and the peak memory of the largest process."""

    images_per_s: float
    cpu_ms: float
    """Per image."""
    peak_mb: float
    """0 if it was not measured."""


def bare(
    model: Installed,
    files: Sequence[Path],
    output: Path,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> LoopRound:
    """Decode, run onnxruntime, encode; write the cut-outs to `output`."""
    command = [sys.executable, "-m", "tests.bench.bare_loop", str(model.folder), str(output)]
    return _race(command, files, settings)


def rembg(python: Path, weights: Path, files: Sequence[Path], output: Path) -> LoopRound:
    """Run rembg with these weights, stored in `weights` under rembg's name for them."""
    command = [str(python), str(REMBG / "loop.py"), str(weights), str(output)]
    # rembg's checksum is that of the weights it would download.
    return _race(command, files, {"U2NET_HOME": str(weights), "MODEL_CHECKSUM_DISABLED": "1"})


def rembg_python() -> Path:
    """Return the Python of rembg's environment; create it with pinned packages if necessary."""
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
    """Fill a folder with IS-Net in single precision, under rembg's name for it."""
    single = install(ModelStore(CACHE / "models"), manifest=ISNET_SINGLE)
    folder.mkdir()
    (folder / "isnet-general-use.onnx").symlink_to(single.path.resolve())
    return folder


def _race(command: Sequence[str], files: Sequence[Path], settings: Mapping[str, str]) -> LoopRound:
    """Start all processes at once; the slowest ends the round.  Loading is not counted."""
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
        before_s, started_s = _cpu_s(running), time.monotonic()
        for process in running:
            _go(process)
        peaks = [float(_line(process)) for process in running]
        elapsed_s, cpu_s = time.monotonic() - started_s, _cpu_s(running) - before_s
        for process in running:
            _go(process)
        for process in running:
            assert process.wait(WAIT_S) == 0
    return LoopRound(len(files) / elapsed_s, cpu_s * 1000 / len(files), max(peaks))


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
