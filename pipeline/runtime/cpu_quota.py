"""The processors that this process may use: its affinity, and the quota of its control group.

A container's `--cpus` and a pod's CPU limit are quotas: the container sees all processors of the
machine, and is stopped for the rest of each period once it has used its share.  A group is bound
by the quotas of all groups above it as well (cgroups(7): `cpu.max` in version 2,
`cpu.cfs_quota_us` and `cpu.cfs_period_us` in version 1).
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_processors(*, cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """Return how many processes can compute at once: at least one, rounded down.

    A quota that cannot be read does not count.
    """
    affinity = len(os.sched_getaffinity(0))
    return max(1, int(min([affinity, *_quotas(cgroups, own_groups)])))


def _quotas(cgroups: Path, own_groups: Path) -> Iterator[float]:
    """Yield the quotas of this process's groups and those above, in processors."""
    for folder, group in _hierarchies(cgroups, own_groups):
        # Within a container the path may be the host's, of which only the root is mounted.
        for above in (group, *group.parents):
            quota = _quota(folder / above.relative_to("/"))
            if quota is not None:
                yield quota


def _hierarchies(cgroups: Path, own_groups: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    """Yield where each hierarchy with CPU quotas is mounted, and this process's group in it."""
    for line in _text(own_groups).splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield cgroups, PurePosixPath(group)
        elif "cpu" in controllers.split(","):
            yield cgroups / controllers, PurePosixPath(group)
            yield cgroups / "cpu", PurePosixPath(group)


def _quota(group: Path) -> float | None:
    limit = _text(group / "cpu.max") or " ".join(
        _text(group / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    try:
        quota, period = map(int, limit.split())
    except ValueError:  # `max`, or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
