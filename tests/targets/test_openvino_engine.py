"""The OpenVINO engine beside ONNX Runtime's, on a float network and its quantized twin; skipped where it is missing."""

from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

from targets.devices.x86_cpu import TARGET
from targets.engines.openvino import OpenVino
from targets.engines.ort import OnnxRuntime
from targets.engines.stamp import KEY, read_stamp
from targets.errors import EngineFailed, EngineMissing, EngineRefused
from targets.reach.local import describe_machine

ENGINE = OpenVino()


@pytest.fixture
def here() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")


def built(model: Path) -> Path:
    engine = model.with_suffix(ENGINE.suffix)
    ENGINE.build(model, engine, threads=1)
    return engine


def answers_of(engine: OpenVino | OnnxRuntime, path: Path, inputs: np.ndarray) -> np.ndarray:
    with closing(engine.open(path, threads=1)) as runner:
        return runner(inputs)


def test_without_it_1_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)  # an import of it now fails
    with pytest.raises(EngineMissing, match=r"pip install 'edge-compress\[openvino\]'"):
        _ = ENGINE.runtime
    assert TARGET.further_engines_here() == ()
    assert TARGET.engine_of("openvino 2026.4.1").name == "openvino"
    assert TARGET.engine_of("onnxruntime 1.31.1") is TARGET.engine_of(None) is TARGET.engine


@pytest.mark.parametrize("fixture", ["float_onnx", "quantized_onnx", "float_onnx_of_batch_4"])
@pytest.mark.usefixtures("here")
def test_10_inputs_are_answered_as_by_onnx_runtime(
    fixture: str, request: pytest.FixtureRequest, inputs: np.ndarray, tmp_path: Path
) -> None:
    model = request.getfixturevalue(fixture)
    other = tmp_path / "other.engine.onnx"
    OnnxRuntime().build(model, other, threads=1)
    ours = answers_of(ENGINE, built(model), inputs)
    # Sums of 144 products of order one in single precision, 144 · 6e-8; the quantized answers are steps of 1/64, one of
    # which a rounding may move.
    allowed = 1 / 64 + 1e-5 if "quantized" in fixture else 1e-5
    np.testing.assert_allclose(ours, answers_of(OnnxRuntime(), other, inputs), atol=allowed, rtol=0)
    assert np.abs(ours).max() > 0.1


@pytest.mark.usefixtures("here")
def test_answers_do_not_share_memory_and_2_runs_give_the_same_bits(
    float_onnx_of_batch_4: Path, inputs: np.ndarray
) -> None:
    with closing(ENGINE.open(built(float_onnx_of_batch_4), threads=1)) as runner:
        first = runner(inputs[:4])
        kept = first.copy()
        runner(inputs[4:8])
        assert np.array_equal(first, kept)
        assert np.array_equal(runner(inputs[:4]), kept)
        with pytest.raises(EngineFailed, match=r"\(4, 3, 1, 1\)"):
            runner(inputs[:4, :, :1, :1])  # numpy alone would broadcast it
    with pytest.raises(EngineFailed, match="closed"):
        runner(inputs[:4])


@pytest.mark.usefixtures("here")
def test_3_products_of_the_quantized_engine_are_integer_and_0_of_the_float_one(
    quantized_onnx: Path, float_onnx: Path, inputs: np.ndarray
) -> None:
    operators = ENGINE.operators(built(quantized_onnx))
    assert {row.name for row in operators.rows} >= {"conv0", "conv1"}
    assert operators.integer >= 2  # it may compute a matrix product of 160 weights in floats
    assert operators.integer + operators.floating == 3
    floats = ENGINE.operators(built(float_onnx))
    assert (floats.integer, floats.floating) == (0, 3)
    assert all("input is f32, weight is f32" in row.why for row in floats.rows)
    layers = ENGINE.layer_times(built(quantized_onnx), inputs[:1], threads=1)
    assert sum(layer.integer for layer in layers if layer.kind.startswith("Convolution")) == 2
    assert all(0 <= layer.median_ms < 1000 for layer in layers)


@pytest.mark.usefixtures("here")
def test_an_engine_cut_in_half_with_1_byte_changed_or_of_another_runtime_is_refused(
    float_onnx: Path, tmp_path: Path
) -> None:
    engine = built(float_onnx)
    whole = engine.read_bytes()
    assert read_stamp(engine).runtime == ENGINE.runtime
    assert read_stamp(engine).architecture == describe_machine().architecture
    damaged = tmp_path / "damaged.openvino"
    places = (0, 100, len(whole) // 2, whole.rfind(KEY.encode()) + 3)
    changed = [whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :] for place in places]
    for content in (whole[: len(whole) // 2], whole[:-1], b"", *changed):
        damaged.write_bytes(content)
        with pytest.raises(EngineRefused, match="Build it"):
            ENGINE.open(damaged, threads=1)
    OnnxRuntime().build(float_onnx, tmp_path / "other.engine.onnx", threads=1)
    with pytest.raises(EngineRefused, match="was built by onnxruntime"):
        ENGINE.open(tmp_path / "other.engine.onnx", threads=1)
    with pytest.raises(EngineRefused, match="was built by openvino"):
        OnnxRuntime().open(engine, threads=1)


@pytest.mark.usefixtures("here")
def test_a_file_that_is_no_model_and_1_of_2_inputs_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in "abc"]
    add = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([add], "two", values[:2], values[2:])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "two.onnx")
    for name, match in (("model", "OpenVINO does not take"), ("two", r"2 inputs \(a, b\)"), ("none", "no ONNX file")):
        with pytest.raises(EngineRefused, match=match):
            ENGINE.build(tmp_path / f"{name}.onnx", tmp_path / "engine.openvino", threads=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "two.onnx"]


@pytest.mark.usefixtures("here")
def test_the_peak_is_that_of_a_process_of_its_own(float_onnx: Path, inputs: np.ndarray) -> None:
    peak = ENGINE.peak_memory(built(float_onnx), inputs[:1], threads=1)
    # An interpreter with numpy and the runtime takes about 100 MB; a network of 20 kB adds next to nothing.
    assert 10e6 < peak < 400e6
