"""rembg with given weights: `python loop.py FOLDER OUTPUT PHOTO ...`, in an environment of its own.

Same protocol as `tests/bench/bare_loop.py`: load, work once, print ready, wait for a line, work,
print the peak memory in MB.  FOLDER holds `isnet-general-use.onnx`; the cut-outs are written to
OUTPUT after the last photo, so that writing files is not measured.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from rembg import new_session, remove


def main(folder: str, output: str, photos: list[str]) -> None:
    """Run the loop."""
    session = new_session("isnet-general-use", providers=["CPUExecutionProvider"])
    remove(_small(), session=session)
    images = [Path(photo).read_bytes() for photo in photos]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    cutouts = [remove(image, session=session) for image in images]
    sys.stdout.write(f"{_peak_mb():.1f}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for photo, cutout in zip(photos, cutouts, strict=True):
        (Path(output) / Path(photo).with_suffix(".png").name).write_bytes(cutout)


def _small() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 40)).save(file, "PNG")
    return file.getvalue()


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
