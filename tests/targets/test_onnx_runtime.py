"""The ONNX Runtime engine on a float network, its quantized twin and two real ones."""

from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

from targets.devices.x86_cpu import TARGET
from targets.engines.ort import OnnxRuntime, open_onnx
from targets.engines.stamp import KEY, Stamp, read_stamp, refuse_foreign
from targets.errors import EngineFailed, EngineRefused
from targets.reach.local import describe_machine
from targets.stopwatch import now_s

ENGINE = OnnxRuntime()


def built(model: Path) -> Path:
    engine = model.with_suffix(ENGINE.suffix)
    ENGINE.build(model, engine, threads=1)
    return engine


@pytest.mark.parametrize("fixture", ["float_onnx", "quantized_onnx"])
def test_an_engine_answers_10_inputs_bit_for_bit_like_the_model_it_was_built_from(
    fixture: str, request: pytest.FixtureRequest, inputs: np.ndarray
) -> None:
    model = request.getfixturevalue(fixture)
    with closing(open_onnx(model, threads=1)) as plain, closing(ENGINE.open(built(model), threads=1)) as engine:
        assert engine(inputs).shape == (10, 10)
        assert np.array_equal(engine(inputs), plain(inputs))
        assert np.abs(plain(inputs)).max() > 0.1  # not a comparison of zeros


def test_the_float_engine_agrees_with_numpy(float_onnx: Path, inputs: np.ndarray) -> None:
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(float_onnx).graph.initializer}
    values = inputs.astype(np.float64)
    for index in range(2):
        padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (N, C, H, W, 3, 3)
        bias = constants[f"bias{index}"][:, None, None]
        values = np.maximum(np.einsum("nchwij,kcij->nkhw", windows, constants[f"weight{index}"]) + bias, 0)
    expected = values.mean((2, 3)) @ constants["weight2"] + constants["bias2"]
    with closing(ENGINE.open(built(float_onnx), threads=1)) as engine:
        # Sums of 144 products of order one in single precision: 144 · 6e-8, rounded up.
        np.testing.assert_allclose(engine(inputs), expected, atol=1e-5, rtol=0)


def test_an_engine_of_batch_4_answers_10_and_3_and_1(float_onnx_of_batch_4: Path, inputs: np.ndarray) -> None:
    with closing(ENGINE.open(built(float_onnx_of_batch_4), threads=1)) as engine:
        all_ten = engine(inputs)
        assert all_ten.shape == (10, 10)
        assert np.array_equal(engine(inputs[:3]), all_ten[:3])
        assert np.array_equal(engine(inputs[9:]), all_ten[9:])
        with pytest.raises(EngineFailed, match="No input"):
            engine(inputs[:0])


def test_two_threads_and_one_give_the_same_answers(quantized_onnx: Path, inputs: np.ndarray) -> None:
    engine = built(quantized_onnx)
    with closing(ENGINE.open(engine, threads=1)) as one, closing(ENGINE.open(engine, threads=2)) as two:
        assert np.array_equal(one(inputs), two(inputs))  # integer sums do not depend on their order


def test_inputs_of_another_shape_and_a_closed_engine_are_named(float_onnx: Path, inputs: np.ndarray) -> None:
    engine = ENGINE.open(built(float_onnx), threads=1)
    with pytest.raises(EngineFailed, match=r"\(10, 3, 5, 5\)"):
        engine(inputs[:, :, :5, :5])
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine(inputs)


def test_an_engine_cut_in_half_or_with_1_byte_changed_is_refused(float_onnx: Path, tmp_path: Path) -> None:
    whole = built(float_onnx).read_bytes()
    damaged = tmp_path / "damaged.engine.onnx"
    places = (0, 1000, len(whole) // 2, whole.rfind(KEY.encode()) + 3, len(whole) - 5)
    changed = [whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :] for place in places]
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"an engine", *changed):
        damaged.write_bytes(content)
        with pytest.raises(EngineRefused, match="Build it"):
            ENGINE.open(damaged, threads=1)


def test_a_plain_onnx_file_and_no_file_are_no_engines(float_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="not an engine"):
        ENGINE.open(float_onnx, threads=1)
    with pytest.raises(EngineRefused, match="cannot be read"):
        ENGINE.open(tmp_path / "nowhere.engine.onnx", threads=1)


def test_an_engine_of_another_version_architecture_or_processor_is_refused(float_onnx: Path) -> None:
    engine, here = built(float_onnx), describe_machine()
    stamp = read_stamp(engine)
    assert stamp == Stamp(ENGINE.runtime, here.architecture, here.cpu_features, 1)
    refuse_foreign(stamp, path=engine, runtime=ENGINE.runtime, machine=here)
    others = [
        (Stamp("onnxruntime 1.0.0", stamp.architecture, stamp.cpu_features, 1), "onnxruntime 1.0.0"),
        (Stamp(stamp.runtime, "riscv64", stamp.cpu_features, 1), "riscv64"),
        (Stamp(stamp.runtime, stamp.architecture, (*stamp.cpu_features, "sme"), 1), r"\+sme"),
        (Stamp(stamp.runtime, stamp.architecture, stamp.cpu_features[1:], 1), f"-{stamp.cpu_features[0]}"),
    ]
    for other, named in others:
        with pytest.raises(EngineRefused, match=named):
            refuse_foreign(other, path=engine, runtime=ENGINE.runtime, machine=here)


def test_an_onnx_file_that_is_none_leaves_no_engine_and_nothing_beside(tmp_path: Path) -> None:
    for content in (b"", b"not a model"):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(EngineRefused):
            ENGINE.build(tmp_path / "model.onnx", tmp_path / "engine.onnx", threads=1)
    with pytest.raises(EngineRefused, match="no ONNX file"):
        ENGINE.build(tmp_path / "nowhere.onnx", tmp_path / "engine.onnx", threads=1)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_failed_build_leaves_the_engine_that_was_there(float_onnx: Path, tmp_path: Path) -> None:
    engine = built(float_onnx)
    before = engine.read_bytes()
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineRefused):
        ENGINE.build(tmp_path / "broken.onnx", engine, threads=1)
    assert engine.read_bytes() == before


def test_a_model_of_2_inputs_is_refused_when_it_is_built(tmp_path: Path) -> None:
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in "abc"]
    add = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([add], "two", values[:2], values[2:])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "two.onnx")
    with pytest.raises(EngineRefused, match=r"2 inputs \(a, b\)"):
        ENGINE.build(tmp_path / "two.onnx", tmp_path / "two.engine.onnx", threads=1)


def test_3_layers_of_the_quantized_engine_are_integer_and_have_times(quantized_onnx: Path, inputs: np.ndarray) -> None:
    engine = built(quantized_onnx)
    started = now_s()
    layers = ENGINE.layer_times(engine, inputs[:1], threads=1)
    took_ms = 1000 * (now_s() - started)
    products = [layer for layer in layers if layer.kind in ("QLinearConv", "QGemm")]
    assert len(products) == 3
    assert all(layer.integer for layer in products)
    assert {layer.kind: layer.integer for layer in layers}["QuantizeLinear"] is False  # it reads floats
    assert [layer.name for layer in layers] == [node.name for node in onnx.load(engine).graph.node]
    assert all(layer.median_ms >= 0 for layer in layers)
    assert sum(layer.median_ms for layer in layers) < took_ms  # ms, not µs: thirty runs took longer than one


def test_the_scheme_of_this_processor_is_exact_at_the_widest_products_of_512_pairs(tmp_path: Path) -> None:
    if not TARGET.is_here():
        pytest.skip("an x86 processor is missing")
    scheme, n = TARGET.scheme(), 512
    bounded, any_ = [[127, 1], [-64, -64], [127, -127]], [[127, 127], [-128, -128], [127, -128]]
    neighbours = bounded if scheme.sums_in_16_bits else any_
    weight = np.stack([np.tile(pair, n // 2) for pair in neighbours], axis=1).astype(np.int8)
    one, zero = np.float32(1), scheme.signed_zero_point
    constants = {"one": one, "zero": np.uint8(zero), "codes": weight, "none": np.int8(0)}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("QuantizeLinear", ["input", "one", "zero"], ["q"]),
            onnx.helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["x"]),
            onnx.helper.make_node("DequantizeLinear", ["codes", "one", "none"], ["w"]),
            onnx.helper.make_node("MatMul", ["x", "w"], ["output"]),
        ],
        "widest",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["N", n])],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "widest.onnx")
    engine = built(tmp_path / "widest.onnx")
    assert ENGINE.operators(engine).integer == 1
    asked = np.stack([np.full(n, 255 - zero), np.full(n, -zero), np.tile([255 - zero, -zero], n // 2)])
    with closing(ENGINE.open(engine, threads=1)) as runner:
        answers = runner(asked.astype(np.float32))
    # Whole numbers below 2²⁴, which single precision holds exactly: not one may differ.
    assert np.array_equal(answers, asked.astype(np.int64) @ weight.astype(np.int64))


def test_the_layers_of_the_float_engine_hold_no_integer_one(float_onnx: Path, inputs: np.ndarray) -> None:
    layers = ENGINE.layer_times(built(float_onnx), inputs[:1], threads=1)
    assert [layer.kind for layer in layers if layer.kind in ("Conv", "Gemm")] == ["Conv", "Conv", "Gemm"]
    assert not any(layer.integer for layer in layers)


def test_the_peak_is_that_of_a_process_of_its_own_and_not_of_this_one(float_onnx: Path, inputs: np.ndarray) -> None:
    ballast = np.ones(60_000_000)  # 480 MB here must not count there
    peak = ENGINE.peak_memory(built(float_onnx), inputs[:1], threads=1)
    # An interpreter with numpy and the runtime takes some tens of MB; a network of 20 kB adds next to nothing.
    assert 10e6 < peak < 300e6
    assert ballast.nbytes > peak


def test_a_probe_that_fails_says_why(float_onnx: Path) -> None:
    with pytest.raises(EngineFailed, match="process of its own"):
        ENGINE.peak_memory(built(float_onnx), np.zeros((1, 3, 5, 5, 5), np.float32), threads=1)


@pytest.mark.parametrize("place", ["ultraface/version-RFB-320.onnx", "fastestdet/FastestDet.onnx"])
def test_two_real_detectors_build_and_answer_1_input_bit_for_bit(data_folder: Path, tmp_path: Path, place: str) -> None:
    model = data_folder / place
    if not model.is_file():
        pytest.skip(f"real network is missing: {model}")
    engine = tmp_path / "detector.engine.onnx"
    ENGINE.build(model, engine, threads=1)
    shape = [axis.dim_value or 1 for axis in onnx.load(model).graph.input[0].type.tensor_type.shape.dim]
    asked = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    with closing(open_onnx(model, threads=1)) as plain, closing(ENGINE.open(engine, threads=1)) as opened:
        assert np.array_equal(plain(asked), opened(asked))
    operators = ENGINE.operators(engine)
    assert operators.integer == 0
    assert operators.floating > 20
