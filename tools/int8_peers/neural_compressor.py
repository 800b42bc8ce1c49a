"""Intel's Neural Compressor: its ONNX branch, which lives on as the package `onnx-neural-compressor`.

Static quantization without a search for accuracy, ranges by minimum and maximum as is its default: Q/DQ pairs with
unsigned activations and signed weights per channel; the same with unsigned weights, which is exact without VNNI; and
the integer operators that it writes by default. Its version 1.0 takes `reduce_range` and forgets it on the way, so
there are no 7-bit weights. Of a network with attention also SmoothQuant, and ranges read anew from every input; it
forgets SmoothQuantAlpha in the same way, so that this is its default, 0.5.

It asks for numpy below 2 and works above, and it imports what it does not need here. Beside the others it goes with

    pip install --no-deps onnx-neural-compressor && pip install psutil py-cpuinfo onnxruntime-extensions transformers
"""

from functools import partial
from pathlib import Path
from typing import Any

from int8_peers.task import Floats, Found, Task, Way, chosen
from int8_peers.transformer import chosen_each, is_transformer

PACKAGES = ("onnx-neural-compressor", "onnx", "onnxruntime")


class Reader:
    """The calibration inputs as Neural Compressor asks for them."""

    def __init__(self, name: str, inputs: Floats) -> None:
        self.name = name
        self.inputs = inputs
        self.rewind()

    def rewind(self) -> None:
        """Begin again."""
        self.waiting = iter(range(len(self.inputs)))

    def get_next(self) -> dict[str, Floats] | None:
        """One input, or None at the end."""
        place = next(self.waiting, None)
        return None if place is None else {self.name: self.inputs[place : place + 1]}

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> dict[str, Floats]:
        asked = self.get_next()
        if asked is None:
            raise StopIteration
        return asked


def quantized(task: Task) -> Found:
    """The best of three forms; with attention, of each kind."""
    from onnxruntime.quantization import QuantFormat, QuantType

    forms = (
        (QuantFormat.QDQ, QuantType.QInt8),
        (QuantFormat.QDQ, QuantType.QUInt8),
        (QuantFormat.QOperator, QuantType.QInt8),
    )
    ways: dict[str, Way] = {
        f"{form.name} U8{'S8' if weights is QuantType.QInt8 else 'U8'} per channel, MinMax, 8-bit weights": partial(
            _write, task, form, weights
        )
        for form, weights in forms
    }
    if not is_transformer(task.model):
        return chosen(task, ways, stem="quantized", suffix=".onnx", runtime="onnxruntime")
    smooth: dict[str, Way] = {
        f"{scheme}, SmoothQuant": partial(_write, task, form, weights, smooth=True)
        for scheme, (form, weights) in zip(ways, forms, strict=True)
        if form is QuantFormat.QDQ
    }
    dynamic: dict[str, Way] = {
        f"dynamic, U8{'S8' if weights is QuantType.QInt8 else 'U8'} per channel, 8-bit weights": partial(
            _write_dynamic, task, weights
        )
        for weights in (QuantType.QInt8, QuantType.QUInt8)
    }
    kinds = {"quantized": ways | smooth, "dynamic": dynamic}
    return chosen_each(task, kinds, suffix=".onnx", runtime="onnxruntime")


def _write_dynamic(task: Task, weights: Any, path: Path) -> None:
    from onnx_neural_compressor.quantization import config, quantize

    settings = config.DynamicQuantConfig(
        weight_type=weights, per_channel=True, reduce_range=True, execution_provider="CPUExecutionProvider"
    )
    quantize(str(task.model), str(path), settings)


def _write(task: Task, form: Any, weights: Any, path: Path, *, smooth: bool = False) -> None:
    import onnx
    from onnx_neural_compressor.quantization import config, quantize

    name = onnx.load(task.model).graph.input[0].name
    further = {"SmoothQuant": True, "SmoothQuantCalibIter": len(task.calibration)} if smooth else {}
    settings = config.StaticQuantConfig(
        calibration_data_reader=Reader(name, task.calibration), quant_format=form, extra_options=further,
        weight_type=weights, per_channel=True, reduce_range=True, calibration_sampling_size=len(task.calibration),
        execution_provider="CPUExecutionProvider",
    )  # fmt: skip
    quantize(str(task.model), str(path), settings)
