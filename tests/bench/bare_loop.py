"""The limit: decode, run onnxruntime, encode, in one process with one thread and nothing else.

It uses the arena that onnxruntime has by default, which keeps memory from image to image: the
fastest loop, and one that isolation does not allow.
"""

import sys
from pathlib import Path

from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter, session_options
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.options import CutoutOptions


def main(model: str, output: str, files: list[str]) -> None:
    """Load, report ready, wait for a line, work, report; then write the cut-outs to `output`."""
    options = session_options(reuse=True)
    options.enable_cpu_mem_arena = True
    segmenter = Segmenter(Installed.read(Path(model)), options=options)
    segmenter.warm_up()
    images = [Path(file).read_bytes() for file in files]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    cutouts = [cut_out_once(segmenter, image, CutoutOptions()).data for image in images]
    sys.stdout.write("0\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for file, cutout in zip(files, cutouts, strict=True):
        (Path(output) / Path(file).with_suffix(".png").name).write_bytes(cutout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
