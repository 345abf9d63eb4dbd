"""Run a model: one picture in, one mask out.

Memory is limited to the needs of one picture: shapes are fixed, and without an arena a run
returns its memory when it ends.  Measured with IS-Net in single precision on one core: at most
904 MB, and 478 MB between two pictures, against 1,379 and 1,413 MB with an arena, in the same
time; 694 and 259 MB with the allocator settings of the pool's children.
"""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from erasestream.pipeline.stages.inference.models import golden as golden_picture
from erasestream.pipeline.stages.inference.models.manifest import (
    Activation,
    Manifest,
    Normalisation,
)
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import ModelRefused

_ONLY_ERRORS = 3
_SATURATED = 80.0
"""Logits beyond it are 0 or 1; an exponent of 89 overflows."""
PROVIDERS = ["CPUExecutionProvider"]

RUNTIME_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    ValueError,
)
"""Errors of onnxruntime, which have no base class of their own."""


class Segmenter:
    """Loaded model.  For one thread at a time."""

    def __init__(self, installed: Installed, *, options: ort.SessionOptions | None = None) -> None:
        """Load the model, by default with `session_options()`.

        Raises `Refused` (model_refused) if it does not match its manifest.
        """
        self.manifest: Manifest = installed.manifest
        self._session = _session(installed.path, installed.manifest.label, options)
        self._input, self._output = _names(self._session, installed.manifest)

    def mask(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mask (height x width, 0..1) for a tensor of `preprocessing.to_input`."""
        outputs = self._session.run([self._output], {self._input: tensor})
        return _as_mask(outputs[0], self.manifest)

    def warm_up(self) -> None:
        """Run the model once, with the golden picture.

        Raises `Refused` (model_refused) if it does not run, if its output is no mask, or not the
        golden mask, if the manifest has one.
        """
        label, golden = self.manifest.label, self.manifest.golden
        try:
            mask = self.mask(golden_picture.model_input(self.manifest))
        except RUNTIME_ERRORS as error:
            raise ModelRefused(f"{label} does not run") from error
        if golden is None:
            return
        difference = golden_picture.difference(mask, golden)
        if difference > golden.tolerance:
            raise ModelRefused(
                f"the mask of {label} for the golden picture differs from its manifest: "
                f"by {difference:.3f}, {golden.tolerance:g} is allowed",
            )


def refuse_unless_loadable(path: Path, label: str) -> None:
    """Raise `ModelRefused` if this file is not a model that can be loaded."""
    _session(path, label)


def session_options(*, reuse: bool = False) -> ort.SessionOptions:
    """Return options for one core: as many pictures as cores are worked on at once.

    `reuse`: whether a layer's memory is kept for a later layer of the same size, or freed at once.
    Keeping it saves the kernel work where large blocks are returned to it; but a child of one
    image, whose memory is all new, then takes 245 MB instead of 190.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_reuse = reuse
    options.log_severity_level = _ONLY_ERRORS
    return options


def _session(
    path: Path, label: str, options: ort.SessionOptions | None = None
) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), options or session_options(), providers=PROVIDERS)
    except RUNTIME_ERRORS as error:
        raise ModelRefused(f"{label} cannot be loaded") from error


def _names(session: ort.InferenceSession, manifest: Manifest) -> tuple[str, str]:
    """Return the names of input and output.  Raises `ModelRefused` if they are others."""
    inputs, outputs = session.get_inputs(), [each.name for each in session.get_outputs()]
    wanted = [1, 3, manifest.size, manifest.size]
    fits = len(inputs) == 1 and (
        manifest.input_name in {None, inputs[0].name}
        and inputs[0].type == "tensor(float)"
        and len(inputs[0].shape) == len(wanted)
        # An open dimension of the model has a name, or None, in place of a number.
        and all(
            has == want or not isinstance(has, int)
            for has, want in zip(inputs[0].shape, wanted, strict=True)
        )
    )
    if not fits:
        has = ", ".join(f"{each.name} {each.shape}" for each in inputs)
        raise ModelRefused(f"{manifest.label} takes {has}"[:300])
    output = manifest.output_name or outputs[0]
    if output not in outputs:
        raise ModelRefused(f"{manifest.label} has no output {output}")
    return inputs[0].name, output


def _as_mask(output: NDArray[np.float32], manifest: Manifest) -> NDArray[np.float32]:
    height, width = output.shape[-2:]
    # Exports in half precision have outputs of half precision.
    values = output.reshape(height, width).astype(np.float32, copy=False)
    if not np.isfinite(values).all():  # rare
        values = np.nan_to_num(values, nan=0.0)
    if manifest.activation is Activation.SIGMOID:
        values = (1 / (1 + np.exp(-np.clip(values, -_SATURATED, _SATURATED)))).astype(np.float32)
    if manifest.normalisation is Normalisation.MIN_MAX:
        low, high = values.min(), values.max()
        if high > low:
            values = (values - low) / (high - low)
    return np.clip(values, 0, 1).astype(np.float32, copy=False)
