"""A worker starts as many children as its container's quota lets compute at once."""

import os
from pathlib import Path

import pytest

from erasestream.pipeline.runtime.cpu_quota import usable_processors

AFFINITY = 8


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(AFFINITY)))


def usable(folder: Path, own_groups: str, **files: str) -> int:
    """Return the processors in a machine with these files; `__` stands for `/` in their names."""
    own = folder / "own"
    own.write_text(own_groups)
    for name, text in files.items():
        path = folder / "cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_processors(cgroups=folder / "cgroup", own_groups=own)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", AFFINITY),
        ("max 100000\n", AFFINITY),
        ("", AFFINITY),
        ("rubbish", AFFINITY),
    ],
)
def test_version_2(tmp_path: Path, limit: str, expected: int) -> None:
    assert usable(tmp_path, "0::/\n", **{"cpu.max": limit}) == expected


def test_quotas_of_the_groups_above_count(tmp_path: Path) -> None:
    files = {"pod__cpu.max": "300000 100000", "pod__worker__cpu.max": "max 100000"}
    assert usable(tmp_path, "0::/pod/worker\n", **files) == 3


@pytest.mark.parametrize(("quota", "expected"), [("400000", 4), ("-1", AFFINITY), ("0", AFFINITY)])
@pytest.mark.parametrize("group", ["/", "/kubepods/of/the/host"])
def test_version_1(tmp_path: Path, quota: str, expected: int, group: str) -> None:
    """The group's path may be the host's, where the container has only its own group mounted."""
    files = {"cpu,cpuacct__cpu.cfs_quota_us": quota, "cpu,cpuacct__cpu.cfs_period_us": "100000"}
    assert usable(tmp_path, f"5:memory:/x\n4:cpu,cpuacct:{group}\n", **files) == expected


def test_without_control_groups_affinity_counts(tmp_path: Path) -> None:
    assert usable(tmp_path, "") == AFFINITY
    missing = tmp_path / "missing"
    assert usable_processors(cgroups=missing, own_groups=missing) == AFFINITY
