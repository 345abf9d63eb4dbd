"""Search files for bytes that must not be in them."""

from collections.abc import Iterable
from pathlib import Path

from erasestream.pipeline.demo.plaintext_search import written_bytes


def files_containing(folder: Path, needles: Iterable[bytes], pattern: str = "*") -> list[Path]:
    """Return the files below `folder` that contain any of these byte strings."""
    wanted = list(needles)
    assert all(wanted)
    return [path for path in sorted(folder.rglob(pattern)) if _has_any(path, wanted)]


def sample_slices(data: bytes, size: int = 48) -> list[bytes]:
    """Return pieces from near the start, the middle and near the end, past any header."""
    assert len(data) > 8 * size
    return [data[at : at + size] for at in (2 * size, len(data) // 2, len(data) - 3 * size)]


def _has_any(path: Path, needles: list[bytes]) -> bool:
    content = written_bytes(path) if path.is_file() else b""
    return any(needle in content for needle in needles)
