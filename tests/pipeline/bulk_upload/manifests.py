"""Manifests of small images."""

import csv
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def manifest_of(folder: Path, rows: int) -> Path:
    """Write a manifest that names one small image this many times."""
    (folder / "photo.png").write_bytes(PNG)
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "account", "reference"])
        writer.writerows(["photo.png", "acct-1", f"row-{n}"] for n in range(rows))
    return path
