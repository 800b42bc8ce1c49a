"""Integer operators by hand and against ONNX Runtime, one at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.quantization.integer_reference import integers_of
from targets.reach.local import is_x86

Answers = Callable[..., np.ndarray]
U0, U128, S0 = np.uint8(0), np.uint8(128), np.int8(0)


def one_operator(
    kind: str, scales: list[float], zeros: list[np.generic], shape: tuple[int, ...], **settings: Any
) -> onnx.ModelProto:
    """Codes `q0`, `q1` … through one operator to codes `q`; the last scale and zero point are those of `q`."""
    count = len(scales) - 1
    names = [*map(str, range(count)), ""]
    constants = [
        numpy_helper.from_array(np.asarray(s, np.float32), f"s{n}") for n, s in zip(names, scales, strict=True)
    ]
    constants += [numpy_helper.from_array(np.asarray(z), f"z{n}") for n, z in zip(names, zeros, strict=True)]
    kinds = [helper.np_dtype_to_tensor_dtype(np.asarray(zero).dtype) for zero in zeros]
    nodes = [helper.make_node("DequantizeLinear", [f"q{n}", f"s{n}", f"z{n}"], [f"r{n}"]) for n in names[:-1]]
    nodes += [
        helper.make_node(kind, [f"r{n}" for n in names[:-1]], ["y"], name="operator", **settings),
        helper.make_node("QuantizeLinear", ["y", "s", "z"], ["q"]),
    ]
    given = [helper.make_tensor_value_info(f"q{n}", k, shape) for n, k in zip(names[:-1], kinds, strict=False)]
    told = [helper.make_tensor_value_info("q", kinds[-1], None)]
    graph = helper.make_graph(nodes, "one", given, told, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def codes_for(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    random, codes = np.random.default_rng(7), {}
    for each in model.graph.input:
        low, high = (0, 256) if each.type.tensor_type.elem_type == TensorProto.UINT8 else (-128, 128)
        shape = [axis.dim_value for axis in each.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type)
        codes[each.name] = random.integers(low, high, size=shape).astype(dtype)
    return codes


def test_1_convolution_by_hand_with_bias_zero_point_and_saturation(answered: Answers) -> None:
    scales = {"s_x": 0.5, "s_w": [0.25, 0.5], "s_y": 1.0, "z_x": np.uint8(128), "z_y": np.uint8(128)}
    constants = [
        numpy_helper.from_array(np.asarray(value, np.float32 if name[0] == "s" else np.uint8), name)
        for name, value in scales.items()
    ]
    constants += [
        numpy_helper.from_array(np.array([[[2, 3]], [[-63, 63]]], np.int8), "w_codes"),
        numpy_helper.from_array(np.zeros(2, np.int8), "z_w"),
        numpy_helper.from_array(np.array([0.3, -1.0], np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q_x", "s_x", "z_x"], ["x"]),
        helper.make_node("DequantizeLinear", ["w_codes", "s_w", "z_w"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w", "bias"], ["y"], pads=[0, 1], kernel_shape=[2]),
        helper.make_node("QuantizeLinear", ["y", "s_y", "z_y"], ["q_y"]),
    ]
    graph = helper.make_graph(
        nodes, "hand",
        [helper.make_tensor_value_info("q_x", TensorProto.UINT8, [1, 1, 3])],
        [helper.make_tensor_value_info("q_y", TensorProto.UINT8, [1, 2, 3])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    codes = np.array([[[130, 127, 148]]], np.uint8)  # 2, −1, 20 steps of 0.5
    # Channel 0: bias 0.3 / 0.125 = 2.4 → 2; sums 2·2 − 1·3 + 2 = 3, −2 + 60 + 2 = 60, 40 + 0 + 2 = 42; times 0.125:
    # 0.375 → 0, 7.5 → 8 (even), 5.25 → 5.  Channel 1: bias −1 / 0.25 = −4; sums −126 − 63 − 4 = −193,
    # 63 + 1260 − 4 = 1319, −1260 − 4 = −1264; times 0.25: −48.25 → −48, 329.75 → 127 at most, −316 → −128 at least.
    expected = np.array([[[128, 136, 133], [80, 255, 0]]], np.uint8)
    assert np.array_equal(integers_of(model, {"q_x": codes})["q_y"], expected)
    assert np.array_equal(answered(model, {"q_x": codes}), expected)


@pytest.mark.parametrize(
    ("scales", "zeros"),
    [
        ([0.1, 0.3, 0.2], [U0, U128, U0]),  # a half of all sums lie within a rounding of the middle of two codes
        ([0.02, 0.01, 0.04], [U128, U0, U0]),
        ([0.02, 0.02, 0.04], [S0, S0, S0]),
        ([0.0173, 0.0291, 0.0313], [U128, U128, U128]),
    ],
)
def test_additions_differ_from_the_runtime_by_1_step_at_ties_and_not_at_all_with_its_roundings(
    scales: list[float], zeros: list[np.generic], answered: Answers
) -> None:
    model = one_operator("Add", scales, zeros, (1, 16, 32, 32))
    codes = codes_for(model)
    plain, rounded = (integers_of(model, codes, as_avx2=each)["q"].astype(int) for each in (False, True))
    real = sum(
        s * (codes[f"q{n}"].astype(float) - float(z)) for n, (s, z) in enumerate(zip(scales[:2], zeros, strict=False))
    )
    place = real / scales[2]
    tie = np.abs(place - np.floor(place) - 0.5) < 1e-4  # 512 units in the last place of the float32 sums, below 512
    assert np.array_equal(plain[~tie], rounded[~tie])
    assert np.abs(plain - rounded).max() <= 1
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    assert np.array_equal(answered(model, codes), rounded)


@pytest.mark.parametrize("zero", [U0, U128, S0], ids=["u8 0", "u8 128", "s8 0"])
@pytest.mark.parametrize("scales", [(0.02, 0.02), (0.02, 0.01), (0.013, 0.0177)])
def test_global_average_pooling_of_8_by_8_and_7_by_7_is_onnx_runtimes(
    zero: np.generic, scales: tuple[float, float], answered: Answers
) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    for side in (8, 7):
        model = one_operator("GlobalAveragePool", [*scales], [zero, zero], (1, 64, side, side))
        codes = codes_for(model)
        expected = integers_of(model, codes)["q"]
        mean = (codes["q0"].astype(float) - float(zero)).mean((2, 3), keepdims=True) * scales[0] / scales[1]
        limits = np.iinfo(expected.dtype)
        # Half a step of rounding, and a thousandth where a mean lies on the middle of two codes.
        np.testing.assert_allclose(expected, np.clip(mean + float(zero), limits.min, limits.max), rtol=0, atol=0.501)
        assert np.array_equal(answered(model, codes), expected)


@pytest.mark.parametrize("whole", [0, 1])
@pytest.mark.parametrize("zero", [U0, U128], ids=["u8 0", "u8 128"])
def test_average_pooling_of_3_by_3_with_padding_is_within_1_step_and_with_its_roundings_equal(
    whole: int, zero: np.generic, answered: Answers
) -> None:
    model = one_operator(
        "AveragePool", [0.02, 0.01], [zero, zero], (1, 8, 17, 17), kernel_shape=[3, 3], strides=[2, 2],
        pads=[1, 1, 1, 1], count_include_pad=whole,
    )  # fmt: skip
    codes = codes_for(model)
    plain, rounded = (integers_of(model, codes, as_avx2=each)["q"].astype(int) for each in (False, True))
    values = np.pad(codes["q0"].astype(float) - float(zero), ((0, 0), (0, 0), (1, 1), (1, 1)))
    corner = values[:, :, :3, :3].sum((2, 3)) / (9 if whole else 4)  # five of nine places lie outside
    assert np.array_equal(
        plain[:, :, 0, 0], np.clip(np.rint(corner * 2), -float(zero), 255 - float(zero)) + float(zero)
    )
    assert np.abs(plain - rounded).max() <= 1
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    assert np.array_equal(answered(model, codes), rounded)


def test_a_clip_at_6_is_taken_in_codes_whatever_the_scale() -> None:
    model = one_operator("Add", [0.05, 0.05, 0.1], [U0, U0, U0], (1, 4, 8, 8))
    clip = helper.make_node("Clip", ["y", "zero", "six"], ["clipped"])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0), ("six", 6))
    )
    model.graph.node.insert(3, clip)
    model.graph.node[4].input[0] = "clipped"
    codes = codes_for(model)
    values = integers_of(model, codes)["q"]
    assert values.max() == 60
    assert np.array_equal(values, np.minimum(np.rint((codes["q0"].astype(float) + codes["q1"]) / 2), 60))
