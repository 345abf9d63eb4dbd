"""Figures to compare over time: one line each, and a file for programs."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.paths import ROOT

FIGURES = ROOT / "docs" / "figures"
LIBRARIES = ("confluent-kafka", "faust-streaming", "aiokafka", "onnxruntime", "pillow", "numpy")


class Figure(NamedTuple):
    """A figure: `value` is the median of `n` runs; without a goal, `holds` is None."""

    name: str
    value: float
    unit: str
    goal: str | None = None
    holds: bool | None = None
    min: float | None = None
    max: float | None = None
    n: int = 1

    def __str__(self) -> str:
        """Format as one line."""
        bounds = "" if self.min is None else f" (min {self.min:g}, max {self.max:g})"
        runs = f"{bounds}, n {self.n}" if self.n > 1 else ""
        verdict = {None: "", True: f", goal {self.goal}: met", False: f", goal {self.goal}: missed"}
        return f"{self.name} = {self.value:g} {self.unit}{runs}{verdict[self.holds]}"


def figure(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """Summarise several runs; `at_least` or `at_most` is the goal."""
    value = median(values)
    goal, holds = None, None
    if at_least is not None:
        goal, holds = f">= {at_least:g}", value >= at_least
    elif at_most is not None:
        goal, holds = f"<= {at_most:g}", value <= at_most
    low, high = round(min(values), 4), round(max(values), 4)
    return Figure(name, round(value, 4), unit, goal, holds, low, high, len(values))


def publish(file: str, figures: Iterable[Figure]) -> None:
    """Print the figures, and merge them into the file with those of other groups.

    Figures that were measured before a failure are kept.  Each has its own commit and number of
    cores: others in the file may be of another day, and of another machine.
    """
    path = FIGURES / file
    source = {"commit": _commit(), "cores": _machine()["cores"]}
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"figures": []}
    merged = {entry["name"]: entry for entry in before["figures"]}
    try:
        for each in figures:
            sys.stdout.write(f"{each}\n")
            merged[each.name] = each._asdict() | source
    finally:
        _write(path, merged)


def _write(path: Path, merged: dict[str, Any]) -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    content = {
        "commit": _commit(),
        "machine": _machine(),
        "figures": [merged[name] for name in sorted(merged)],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": names[0] if names else platform.machine(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
    }
