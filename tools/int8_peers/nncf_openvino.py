"""NNCF's post-training quantization of the ONNX file, once as OpenVINO reads it and once as ONNX.

Both presets (activations symmetric: "performance"; or not where they are signed: "mixed"), its overflow fix (7-bit
weights, for processors without VNNI) in the first layer as is its default and everywhere, and for the best of these the
slow bias correction. A network with attention is named one, which brings SmoothQuant. What comes out of the ONNX road
answers in OpenVINO and in ONNX Runtime.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from int8_peers.task import Found, Quantized, Task, Tried, Way, chosen
from int8_peers.transformer import is_transformer

PACKAGES = ("nncf", "openvino", "onnx", "onnxruntime")

Read = Callable[[Path], Any]
Write = Callable[[Any, Path], None]


def quantized(task: Task) -> Found:
    """The best of OpenVINO's road in OpenVINO; the best of ONNX's in ONNX Runtime, and the same file in OpenVINO."""
    native = _road(task, _read_openvino, _write_openvino, "openvino", ".xml")
    through = _road(task, _read_onnx, _write_onnx, "onnxruntime", ".onnx")
    file = through.forms[0]
    forms = (*native.forms, file, Quantized(file.file, "openvino", file.scheme))
    return Found(forms, (*native.tried, *through.tried))


def _road(task: Task, read: Read, write: Write, runtime: str, suffix: str) -> Found:
    from nncf import QuantizationPreset
    from nncf.quantization.advanced_parameters import OverflowFix

    attention = is_transformer(task.model)
    named = "transformer, " if attention else ""

    def ways(settings: list[tuple[Any, Any]], *, fast: bool) -> dict[str, Way]:
        return {
            f"NNCF on {'ONNX' if suffix == '.onnx' else 'OpenVINO'}, {named}{preset.value}, 7-bit weights "
            f"{'everywhere' if fix is OverflowFix.ENABLE else 'in the first layer'}, {'fast' if fast else 'slow'} bias "
            "correction": partial(_write, task, read, write, preset, fix, fast, attention)
            for preset, fix in settings
        }

    settings = [
        (preset, fix)
        for preset in (QuantizationPreset.MIXED, QuantizationPreset.PERFORMANCE)
        for fix in (OverflowFix.FIRST_LAYER, OverflowFix.ENABLE)
    ]
    quick = ways(settings, fast=True)
    first = chosen(task, quick, stem=f"fast-{runtime}", suffix=suffix, runtime=runtime)
    best = settings[list(quick).index(first.forms[0].scheme)]
    try:
        second = chosen(task, ways([best], fast=False), stem=f"slow-{runtime}", suffix=suffix, runtime=runtime)
    except RuntimeError as error:  # the fast one is there
        return Found(first.forms, (*first.tried, Tried("slow bias correction", None, None, 0.0, str(error))))
    return better(first, second)


def better(first: Found, second: Found) -> Found:
    """That of two finds, each with one form, whose form is more accurate, with all that was tried."""
    tried = (*first.tried, *second.tried)
    by_scheme = {each.scheme: (each.accuracy or 0.0, -(each.error or 0.0)) for each in tried}
    winner = max(first, second, key=lambda found: by_scheme[found.forms[0].scheme])
    return Found(winner.forms, tried)


def _write(task: Task, read: Read, write: Write, preset: Any, fix: Any, fast: bool, attention: bool,
           path: Path) -> None:  # fmt: skip
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters

    model = read(task.model)
    ones = [task.calibration[place : place + 1] for place in range(len(task.calibration))]
    name = None if path.suffix == ".xml" else model.graph.input[0].name
    data = nncf.Dataset(ones, lambda one: one if name is None else {name: one})
    made = nncf.quantize(
        model, data, preset=preset, target_device=nncf.TargetDevice.CPU, subset_size=len(ones),
        model_type=nncf.ModelType.TRANSFORMER if attention else None, fast_bias_correction=fast,
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=fix),
    )  # fmt: skip
    write(made, path)


def _read_openvino(path: Path) -> Any:
    import openvino

    return openvino.Core().read_model(str(path))


def _write_openvino(model: Any, path: Path) -> None:
    import openvino

    openvino.save_model(model, str(path), compress_to_fp16=False)


def _read_onnx(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _write_onnx(model: Any, path: Path) -> None:
    import onnx

    onnx.save(model, path)
