"""A device that is not here: the file it builds from answers, and nothing is timed."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from targets.devices import null
from targets.engines.absent import Absent, is_unbuilt
from targets.engines.ort import OnnxRuntime
from targets.engines.session import open_session, runner_of
from targets.engines.unbuilt import Unbuilt
from targets.errors import DeviceMissing, EngineRefused
from targets.find import target_named

ENGINE = Unbuilt("jetson-orin", "TensorRT")


def test_the_1_file_is_copied_byte_by_byte_and_answers_as_it_is_written(
    quantized_onnx: Path, inputs: np.ndarray, tmp_path: Path
) -> None:
    built = tmp_path / "lowered.onnx"
    ENGINE.build(quantized_onnx, built, threads=1)
    assert built.read_bytes() == quantized_onnx.read_bytes()
    with closing(runner_of(open_session(quantized_onnx, threads=1, optimize=False), path=quantized_onnx)) as plain:
        expected = plain(inputs)
    with closing(ENGINE.open(built, threads=1)) as runner:
        assert np.array_equal(runner(inputs), expected)  # the same file, run the same way


def test_no_file_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="no ONNX file"):
        ENGINE.build(tmp_path / "nowhere.onnx", tmp_path / "lowered.onnx", threads=1)
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(EngineRefused):
        ENGINE.build(tmp_path / "text.onnx", tmp_path / "lowered.onnx", threads=1)
    assert not (tmp_path / "lowered.onnx").exists()


def test_0_times_and_0_bytes_of_memory_are_known_without_the_device(quantized_onnx: Path, inputs: np.ndarray) -> None:
    with pytest.raises(DeviceMissing, match="not measured on jetson-orin: no device was given"):
        ENGINE.layer_times(quantized_onnx, inputs, threads=1)
    with pytest.raises(DeviceMissing, match="not measured on jetson-orin: no device was given"):
        ENGINE.peak_memory(quantized_onnx, inputs, threads=1)


def test_3_of_3_products_are_quantized_in_the_file_and_0_of_the_float_one(
    quantized_onnx: Path, float_onnx: Path
) -> None:
    quantized, floating = ENGINE.operators(quantized_onnx), ENGINE.operators(float_onnx)
    assert (quantized.integer, quantized.floating, [row.kind for row in quantized.rows]) == (
        3, 0, ["Conv", "Conv", "Gemm"],
    )  # fmt: skip
    assert (floating.integer, floating.floating) == (0, 3)
    assert all(row.why for row in floating.rows)


def test_the_null_device_is_itself_here_and_unbuilt_elsewhere() -> None:
    assert null.TARGET.from_here() is null.TARGET
    away = replace(null.TARGET, is_here=lambda: False).from_here()
    assert isinstance(away.engine, Unbuilt)
    assert away.further_engines == ()
    assert is_unbuilt(away.engine.runtime)
    assert "for nothing on null" in away.engine.runtime
    assert not is_unbuilt(OnnxRuntime().runtime)


def test_a_file_that_was_handed_over_unbuilt_has_0_engines_but_on_its_device(quantized_onnx: Path) -> None:
    orin = target_named("jetson-orin")
    away = orin.from_here()
    assert away.engine_of(away.engine.runtime) is away.engine
    found = target_named("arm64-cpu").engine_of("unbuilt ONNX for onnxruntime on arm64-cpu")
    assert found == Absent("onnxruntime", "arm64-cpu")
    with pytest.raises(DeviceMissing, match="for arm64-cpu is opened on that device only"):
        found.open(quantized_onnx, threads=1)
    with pytest.raises(DeviceMissing, match="no device was given"):
        _ = orin.engine.runtime
