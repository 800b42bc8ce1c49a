"""NVIDIA ModelOpt's post-training quantization of ONNX files, calibrated on the processor.

It places symmetric signed Q/DQ pairs for TensorRT. ONNX Runtime has no fast form of those on x86; the file is timed
there as it is, and in OpenVINO where that is installed.
"""

from functools import partial
from pathlib import Path

from int8_peers.task import Found, Quantized, Task, Way, chosen

PACKAGES = ("nvidia-modelopt", "onnx", "onnxruntime")


def quantized(task: Task) -> Found:
    """The better of its two calibrations."""
    import modelopt.onnx.quantization  # noqa: F401 - missing, it is missing once and not for each setting

    ways: dict[str, Way] = {f"QDQ S8S8, {method}": partial(_write, task, method) for method in ("entropy", "max")}
    found = chosen(task, ways, stem="quantized", suffix=".onnx", runtime="onnxruntime")
    file = found.forms[0]
    return Found((file, Quantized(file.file, "openvino", file.scheme)), found.tried)


def _write(task: Task, method: str, path: Path) -> None:
    import onnx
    from modelopt.onnx.quantization import quantize

    name = onnx.load(task.model).graph.input[0].name
    quantize(
        str(task.model), quantize_mode="int8", calibration_data={name: task.calibration}, calibration_method=method,
        calibration_eps=["cpu"], high_precision_dtype="fp32", output_path=str(path),
    )  # fmt: skip
