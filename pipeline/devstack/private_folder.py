"""Folders that hold records in clear: no other account may enter them."""

from pathlib import Path

MASK = 0o077
"""The umask of every process that the stack starts: what it writes is its owner's only."""


def make_private(folder: Path) -> None:
    """Create a folder with mode 0700, or give one that exists this mode."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
