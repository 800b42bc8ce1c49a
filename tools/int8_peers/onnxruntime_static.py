"""ONNX Runtime's own quantizer, `quantize_static`, on the graph that its own `quant_pre_process` has prepared.

Unsigned activations and signed weights per channel as Q/DQ pairs, the form that is fast on x86; ranges by three
calibrators; weights of 8 bits, and of 7 (`reduce_range`), which processors without VNNI need to be exact. Of a network
with attention, all operators or the matrix products alone; and `quantize_dynamic`, which is advised for those. Of a
detector, all operators, or all but those behind its last products, which make boxes of the answers.
"""

import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from int8_peers.task import Floats, Found, Task, Way, chosen
from int8_peers.transformer import PRODUCTS, chosen_each, is_transformer
from pipeline.data.fidelity import fidelity_of

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
    """The best of three calibrators with 7 and with 8 bits; with attention, of each kind."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = task.folder / "preprocessed.onnx"
    quant_pre_process(str(task.model), str(prepared))
    ways = _static(task, prepared)
    if fidelity_of(task.model) is not None:
        ways |= _static(task, prepared, tail=behind_products(prepared))
    if not is_transformer(task.model):
        return chosen(task, ways, stem="quantized", suffix=".onnx", runtime="onnxruntime")
    dynamic: dict[str, Way] = {
        f"dynamic, U8S8 per channel, {7 if reduce else 8}-bit weights": partial(_write_dynamic, prepared, reduce)
        for reduce in (True, False)
    }
    kinds = {"quantized": ways, "products": _static(task, prepared, operators=PRODUCTS), "dynamic": dynamic}
    return chosen_each(task, kinds, suffix=".onnx", runtime="onnxruntime")


def _static(
    task: Task, prepared: Path, *, operators: tuple[str, ...] = (), tail: tuple[str, ...] = ()
) -> dict[str, Way]:
    """Every setting of `quantize_static`; operators: which are quantized, none for all that it knows.

    tail: nodes that stay in float
    """
    from onnxruntime.quantization import CalibrationMethod

    methods = (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)
    beginning = "QDQ U8S8 per channel, "
    beginning += "matrix products alone, " if operators else "behind the last products in float, " if tail else ""
    return {
        f"{beginning}{method.name}, {7 if reduce else 8}-bit weights": partial(
            _write, task, prepared, method, reduce, operators, tail
        )
        for method in methods
        for reduce in (True, False)
    }


def behind_products(model: Path) -> tuple[str, ...]:
    """The names of the nodes behind which there is no convolution or matrix product any more."""
    import onnx

    wanted: set[str] = set()
    behind = []
    for node in reversed(onnx.load(model).graph.node):
        if node.op_type in ("Conv", "ConvTranspose", *PRODUCTS) or wanted & set(node.output):
            wanted |= set(node.input)
        else:
            behind.append(node.name)
    return tuple(behind)


def _write_dynamic(prepared: Path, reduce: bool, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(prepared, path, per_channel=True, reduce_range=reduce, weight_type=QuantType.QInt8)


def _write(
    task: Task, prepared: Path, method: Any, reduce: bool, operators: tuple[str, ...], tail: tuple[str, ...], path: Path
) -> None:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    name = onnx.load(prepared).graph.input[0].name
    further: dict[str, Any] = {}
    if "calibration_cache_path" in inspect.signature(quantize_static).parameters:  # 7 and 8 bits share the ranges
        further["calibration_cache_path"] = (
            task.folder / f"ranges-{'-'.join((method.name, *operators, *(['tail'] if tail else [])))}.json"
        )
    options = {} if len(task.calibration) % STRIDE else {"CalibStridedMinMax": STRIDE}
    quantize_static(
        str(prepared), str(path), Reader(name, task.calibration), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=reduce, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method,
        op_types_to_quantize=list(operators) or None,
        nodes_to_exclude=list(tail), extra_options=options, **further,
    )  # fmt: skip
