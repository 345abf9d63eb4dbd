"""From single precision to 8 bits: ranges measured on photos, weights and activations rounded.

Static, QDQ form, weights per channel.  Ranges are the smallest and largest values that any
photo of the calibration brought; the same photos give the same ranges on the same CPU.

Memory is bounded by one picture at a time and no arena: the ranges of all 500 tensors are
reduced inside the run, so that no activation is kept.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    MinMaxCalibrater,
    TensorsData,
    save_tensors_data,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from erasestream.pipeline.stages.inference.models.install import graph_rewrites
from erasestream.pipeline.stages.inference.models.segmenter import (
    DOES_NOT_RUN,
    PROVIDERS,
    session_options,
)
from erasestream.schemas.errors import ModelRefused


def quantise(
    single: Path, target: Path, *, input_name: str, pictures: Iterable[NDArray[np.float32]]
) -> None:
    """Write `target`, the model `single` in 8 bits.  `pictures` are inputs of the model.

    Raises `Refused` (model_refused) if it has a form that can not be quantised.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            wide, prepared = Path(folder) / "wide.onnx", Path(folder) / "prepared.onnx"
            graph_rewrites.widen(single, wide)
            quant_pre_process(str(wide), str(prepared), skip_symbolic_shape=True)
            ranges = Path(folder) / "ranges.json"
            save_tensors_data(_ranges(prepared, _Reader(input_name, pictures)), ranges)
            quantize_static(
                str(prepared),
                str(target),
                None,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                calibration_cache_path=ranges,
            )
            graph_rewrites.settle(target)
    except DOES_NOT_RUN as error:
        raise ModelRefused("the model can not be quantised") from error


def _ranges(prepared: Path, reader: "_Reader") -> TensorsData:
    calibrater = _Calibrater(
        prepared, augmented_model_path=str(prepared.with_name("augmented.onnx"))
    )
    calibrater.augment_graph()
    calibrater.create_inference_session()
    calibrater.collect_data(reader)
    return calibrater.compute_data()


class _Calibrater(MinMaxCalibrater):  # type: ignore[misc]
    def create_inference_session(self) -> None:
        # onnxruntime's own has an arena, which took 1.5 GB more, and as many threads as cores.
        self.infer_session = ort.InferenceSession(
            self.augmented_model_path, session_options(), providers=PROVIDERS
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, input_name: str, pictures: Iterable[NDArray[np.float32]]) -> None:
        self._inputs = ({input_name: picture} for picture in pictures)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)
