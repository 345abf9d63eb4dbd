"""Two models that are more exact than IS-Net, and slower: BEN2 and BiRefNet_lite.

Their weights are in no package registry: an operator downloads them, and the SHA-256 decides
whether they are these.  Preprocessing and outputs are those of the authors' own programs, which
are named below.

Their golden mask is the ellipse of the golden picture itself, since it was written down without
the weights: a model that is given another input than its own, or whose output is taken for
something else, differs by more than the tolerance.
"""

from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.manifest import (
    Activation,
    Golden,
    Manifest,
    Normalisation,
)
from erasestream.schemas.errors import Refused

ELLIPSE = Golden(
    mask=(
        "0000000000000000000000000000000000000000000000000000000000000000"
        "00000000000000111100000000000000000000000033c7ffffc9360000000000"
        "0000000033f4fffffffff5360000000000000000ceffffffffffffd101000000"
        "00000034ffffffffffffffff3800000000000069ffffffffffffffff6d000000"
        "00000076ffffffffffffffff7a0000000000005cffffffffffffffff60000000"
        "0000001afcfffffffffffffd1e000000000000009effffffffffffa200000000"
        "000000000ec9ffffffffcb10000000000000000000076fb8b871080000000000"
        "0000000000000000000000000000000000000000000000000000000000000000"
    ),
    tolerance=0.15,
)
"""The share of each field that the ellipse covers."""

_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_SCALE = (58.395, 57.12, 57.375)
"""0.485, 0.456, 0.406 and 0.229, 0.224, 0.225, times 255."""

BEN2 = Manifest(
    name="ben2",
    version="base-e48a207",
    source=(
        "https://huggingface.co/PramaLLC/BEN2/resolve/"
        "e48a20765fb421d19dcdb0bf3cc61e802ca5ec8f/BEN2_Base.onnx"
    ),
    sha256="22cea62108ff53b7ccc20f7a008bf30494228d84b1687f29ecbe76936a998101",
    licence="BEN2 (base) by Prama LLC, https://huggingface.co/PramaLLC/BEN2: MIT.",
    download_bytes=222_932_053,
    size=1024,
    mean=(0.0, 0.0, 0.0),
    scale=(255.0, 255.0, 255.0),
    normalisation=Normalisation.MIN_MAX,
    golden=ELLIPSE,
    memory_bytes=12 << 30,
)
"""As `onnx_run.py` of its authors: values of 0 to 1, the only input, the first output, from the
smallest to the largest value.  Weights and output are partly in half precision."""

BIREFNET_LITE = Manifest(
    name="birefnet_lite",
    version="onnx-community",
    source=(
        "https://huggingface.co/onnx-community/BiRefNet_lite-ONNX/resolve/main/onnx/model.onnx"
    ),
    sha256="5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
    licence=(
        "BiRefNet_lite by Peng Zheng et al., https://github.com/ZhengPeng7/BiRefNet, exported by"
        " onnx-community: MIT."
    ),
    download_bytes=224_005_088,
    input_name="input_image",
    size=1024,
    mean=_IMAGENET_MEAN,
    scale=_IMAGENET_SCALE,
    output_name="output_image",
    activation=Activation.SIGMOID,
    golden=ELLIPSE,
    memory_bytes=16 << 30,
)
"""As its `preprocessor_config.json` and the authors' README: the normalisation of ImageNet, and
logits, of which the sigmoid is the mask."""

KNOWN = {each.name: each for each in (ISNET, BEN2, BIREFNET_LITE)}


def known(name: str) -> Manifest:
    """Return the manifest of a model that comes with this package.  Raises `Refused`."""
    if name not in KNOWN:
        raise Refused(f"the models are {', '.join(KNOWN)}; others need --manifest")
    return KNOWN[name]
