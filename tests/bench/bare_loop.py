"""The limit: decode, onnxruntime, encode, in one process with one thread and nothing else."""

import sys
import time
from pathlib import Path

from erasestream.pipeline.inference.cutout import cut_out_once
from erasestream.pipeline.inference.manifest import ModelStore
from erasestream.pipeline.inference.model import Segmenter
from erasestream.schemas.options import CutoutOptions

CACHE = Path(__file__).parents[2] / ".cache"


def main(files: list[str]) -> None:
    """Load, say so, wait for the word, work."""
    segmenter = Segmenter(ModelStore(CACHE / "models").find("isnet"))
    segmenter.warm_up()
    images = [Path(file).read_bytes() for file in files]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for image in images:
        cut_out_once(segmenter, image, CutoutOptions(), clock=time.perf_counter)


if __name__ == "__main__":
    main(sys.argv[1:])
