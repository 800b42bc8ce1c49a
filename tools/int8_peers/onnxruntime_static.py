"""ONNX Runtime's own quantizer, `quantize_static`, on the graph that its own `quant_pre_process` has prepared.

Unsigned activations and signed weights per channel as Q/DQ pairs, the form that is fast on x86; ranges by three
calibrators; weights of 8 bits, and of 7 (`reduce_range`), which processors without VNNI need to be exact.
"""

import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from int8_peers.task import Floats, Found, Task, Way, chosen

PACKAGES = ("onnxruntime", "onnx")
STRIDE = 20  # inputs whose activations are in memory together; a divisor of the calibration's number, or all of it


class Reader:
    """The calibration inputs as ONNX Runtime asks for them, in stretches."""

    def __init__(self, name: str, inputs: Floats) -> None:
        self.name = name
        self.inputs = inputs
        self.set_range(0, len(inputs))

    def __len__(self) -> int:
        return len(self.inputs)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Which inputs come next."""
        self.waiting: Iterator[int] = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, Floats] | None:
        """One input, or None at the end of the stretch."""
        place = next(self.waiting, None)
        return None if place is None else {self.name: self.inputs[place : place + 1]}


def quantized(task: Task) -> Found:
    """The best of three calibrators with 7 and with 8 bits."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = task.folder / "preprocessed.onnx"
    quant_pre_process(str(task.model), str(prepared))
    methods = (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)
    ways: dict[str, Way] = {
        f"QDQ U8S8 per channel, {method.name}, {7 if reduce else 8}-bit weights": partial(
            _write, task, prepared, method, reduce
        )
        for method in methods
        for reduce in (True, False)
    }
    return chosen(task, ways, stem="quantized", suffix=".onnx", runtime="onnxruntime")


def _write(task: Task, prepared: Path, method: Any, reduce: bool, path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    name = onnx.load(prepared).graph.input[0].name
    further: dict[str, Any] = {}
    if "calibration_cache_path" in inspect.signature(quantize_static).parameters:  # 7 and 8 bits share the ranges
        further["calibration_cache_path"] = task.folder / f"ranges-{method.name}.json"
    options = {} if len(task.calibration) % STRIDE else {"CalibStridedMinMax": STRIDE}
    quantize_static(
        str(prepared), str(path), Reader(name, task.calibration), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=reduce, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method,
        extra_options=options, **further,
    )  # fmt: skip
