"""Quantise a model to 8 bits, with ranges measured on photos.

Static, QDQ form, weights per channel.  Ranges are the smallest and largest values over all
calibration photos; the same photos give the same ranges on the same CPU.

Memory is limited by running one picture at a time, without an arena: the ranges of all 500
tensors are reduced during the run, so that no activation is kept.
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
    PROVIDERS,
    RUNTIME_ERRORS,
    session_options,
)
from erasestream.schemas.errors import ModelRefused


def quantise(
    single: Path, target: Path, *, input_name: str, pictures: Iterable[NDArray[np.float32]]
) -> None:
    """Write the model `single` to `target`, in 8 bits.  `pictures` are inputs of the model.

    Raises `Refused` (model_refused) if its form cannot be quantised.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            wide, prepared = Path(folder) / "wide.onnx", Path(folder) / "prepared.onnx"
            graph_rewrites.widen(single, wide)
            quant_pre_process(str(wide), str(prepared), skip_symbolic_shape=True)
            ranges = Path(folder) / "ranges.json"
            save_tensors_data(_ranges(prepared, _CalibrationReader(input_name, pictures)), ranges)
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
            graph_rewrites.pad_and_share_scales(target)
    except RUNTIME_ERRORS as error:
        raise ModelRefused("the model cannot be quantised") from error


def _ranges(prepared: Path, reader: "_CalibrationReader") -> TensorsData:
    calibrator = _SingleThreadedCalibrator(
        prepared, augmented_model_path=str(prepared.with_name("augmented.onnx"))
    )
    calibrator.augment_graph()
    calibrator.create_inference_session()
    calibrator.collect_data(reader)
    return calibrator.compute_data()


class _SingleThreadedCalibrator(MinMaxCalibrater):  # type: ignore[misc]
    def create_inference_session(self) -> None:
        # The base class uses an arena, which took 1.5 GB more, and as many threads as cores.
        self.infer_session = ort.InferenceSession(
            self.augmented_model_path, session_options(), providers=PROVIDERS
        )


class _CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, input_name: str, pictures: Iterable[NDArray[np.float32]]) -> None:
        self._inputs = ({input_name: picture} for picture in pictures)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)
