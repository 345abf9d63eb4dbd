"""Let pictures through without a model: for the test of what is imported when."""

from typing import BinaryIO

import numpy as np

from erasestream.pipeline.inference import images
from erasestream.schemas.options import CutoutOptions, OutputFormat


def work(files: BinaryIO) -> None:
    """Each picture: its length (u32), its bytes."""
    while head := files.read(4):
        picture = images.decode(files.read(int.from_bytes(head, "little")))
        images.to_input(picture, size=64, mean=(0, 0, 0), scale=(1, 1, 1))
        for output in OutputFormat:
            cutout = images.compose(picture, np.ones((64, 64), np.float32))
            images.encode(cutout, CutoutOptions(format=output))
