"""What ONNX Runtime's part on a device refuses or fails at, each with its kind and one sentence."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from targets.on_device import onnx_runtime
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.onnx_runtime_process import in_fresh_process

ENGINE = "small.engine.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a job."""
    path = tmp_path / "job"
    path.mkdir()
    return path


def sent(inputs: np.ndarray, folder: Path, *, name: str = "input") -> dict[str, Any]:
    """An input as a raw file of the job."""
    inputs.tofile(folder / f"{name}.raw")
    return {"name": name, "dtype": str(inputs.dtype), "shape": list(inputs.shape), "file": f"{name}.raw"}


def built(onnx_path: Path, folder: Path) -> Path:
    """An engine in the folder of the job, made in this process."""
    (folder / "small.onnx").write_bytes(onnx_path.read_bytes())
    onnx_runtime.build({"onnx": "small.onnx", "engine": ENGINE}, folder)
    return folder / ENGINE


def refused(words: str, job: dict[str, Any], folder: Path, *, what: str = "answer") -> str:
    """The kind of the failure, whose sentence has these words and is short."""
    with pytest.raises(OnDeviceFailure, match=words) as failure:
        getattr(onnx_runtime, what)(job, folder)
    assert len(failure.value.sentence) <= 420
    return str(failure.value.kind)


def test_6_wrong_jobs_get_6_sentences(folder: Path, float_onnx: Path, inputs: np.ndarray) -> None:
    engine, given = built(float_onnx, folder), sent(inputs, folder)
    assert refused("no file gone.onnx", {"engine": "gone.onnx", "inputs": [given]}, folder) == "missing"
    assert (
        refused("no file gone.raw", {"engine": ENGINE, "inputs": [{**given, "file": "gone.raw"}]}, folder) == "missing"
    )
    short = {**given, "shape": [11, *given["shape"][1:]]}
    assert refused("has 7680 bytes.* takes 8448", {"engine": ENGINE, "inputs": [short]}, folder) == "usage"
    assert refused("threads is 0", {"engine": ENGINE, "inputs": [given], "settings": {"threads": 0}}, folder) == "usage"
    assert refused("'npu'.*cpu, cuda", {"engine": ENGINE, "settings": {"provider": "npu"}}, folder) == "usage"
    engine.write_bytes(engine.read_bytes()[:-200])
    assert refused(f"does not take {ENGINE}", {"engine": ENGINE, "inputs": [given]}, folder) == "refused"


def test_inputs_of_another_shape_fail_with_the_1_that_was_given(folder: Path, float_onnx: Path) -> None:
    built(float_onnx, folder)
    given = sent(np.zeros((2, 5, 8, 8), np.float32), folder)
    assert refused(r"fails on input \[2, 5, 8, 8\]", {"engine": ENGINE, "inputs": [given]}, folder) == "failed"


def test_an_output_without_an_axis_for_2_inputs_is_refused(folder: Path) -> None:
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2]),
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
    ]
    node = helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)
    model = helper.make_model(
        helper.make_graph([node], "sum", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    onnx.save(model, folder / "sum.onnx")
    given = sent(np.ones((2, 2), np.float32), folder)
    assert refused("sum has shape .* for 2 inputs", {"engine": "sum.onnx", "inputs": [given]}, folder) == "failed"


def test_a_build_that_fails_leaves_0_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bad.onnx").write_bytes(b"no model")
    job = {"onnx": "bad.onnx", "engine": ENGINE}
    assert refused("does not take bad.onnx", job, folder, what="build") == "refused"
    assert [each.name for each in folder.iterdir()] == ["bad.onnx"]
    monkeypatch.setattr(onnx_runtime.shutil, "disk_usage", lambda _: SimpleNamespace(free=7))  # less than the 8 bytes
    assert refused("no space is left", job, folder, what="build") == "full"


@pytest.mark.parametrize("what", ["measure", "layers", "memory"])
def test_figures_of_an_emulated_processor_are_refused_unless_1_setting_asks_for_them(
    what: str, folder: Path, float_onnx: Path, inputs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(float_onnx, folder)
    monkeypatch.setattr(onnx_runtime, "emulated", lambda: (True, "the kernel runs on another"))
    job: dict[str, Any] = {"engine": ENGINE, "engines": [ENGINE], "inputs": [sent(inputs, folder)]}
    assert refused("emulated .the kernel runs on another", job, folder, what=what) == "refused"
    job["settings"] = {"allow_emulated": True, "samples": 2, "processes": 1}
    assert getattr(onnx_runtime, what)(job, folder)["emulated"] is True


def test_a_failure_in_a_fresh_process_keeps_its_kind_and_1_sentence(folder: Path) -> None:
    orders = {"what": "times", "job": {"engines": ["gone.onnx"]}, "folder": str(folder), "process": 0}
    with pytest.raises(OnDeviceFailure, match=r"no file gone\.onnx") as failure:
        in_fresh_process(orders, folder)
    assert failure.value.kind == "missing"


def test_cuda_is_missing_with_1_sentence_where_the_runtime_has_none(folder: Path, float_onnx: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("an ONNX Runtime without CUDA is missing")
    (folder / "small.onnx").write_bytes(float_onnx.read_bytes())
    job = {"onnx": "small.onnx", "engine": ENGINE, "settings": {"provider": "cuda"}}
    assert refused("has no CUDAExecutionProvider", job, folder, what="build") == "missing"
