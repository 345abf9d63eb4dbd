"""Process pictures without a model, for the test of late imports."""

from itertools import product
from typing import BinaryIO

import numpy as np

from erasestream.pipeline.stages.inference.imaging import compose, decode, encode
from erasestream.pipeline.stages.inference.models import preprocessing
from erasestream.pipeline.stages.inference.models.manifest import Exposure, Manifest
from erasestream.schemas.options import Channels, CutoutOptions, OutputFormat

MANIFEST = Manifest(
    name="none",
    version="1",
    source="none",
    sha256="0" * 64,
    licence="CC0",
    input_name="picture",
    size=64,
    mean=(0, 0, 0),
    scale=(1, 1, 1),
    exposure=Exposure.BRIGHTEST_IS_WHITE,
    output_name="mask",
)


def work(files: BinaryIO) -> None:
    """Process each picture: its length (u32), its bytes."""
    while head := files.read(4):
        picture = decode.decode(files.read(int.from_bytes(head, "little")))
        preprocessing.to_input(picture, MANIFEST)
        mask = np.full((64, 64), 0.5, np.float32)
        for output, channels in product(OutputFormat, Channels):
            if (output, channels) == (OutputFormat.ZIP, Channels.ALPHA):
                continue
            options = CutoutOptions(
                format=output, channels=channels, crop=True, crop_margin="5%", max_dimension=16
            )
            cutout = compose.arrange(compose.cut(picture, mask, options), options)
            encode.encode(cutout, options)
