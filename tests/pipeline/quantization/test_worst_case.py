"""Whether weights can saturate 16 bits: by hand, against every pair, and on the processor that saturates."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.integer_reference import integers_of
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.worst_case import exact_at_eight_bits, layer_alone, saturation, worst_codes
from pipeline.stages.export import onnx_of
from targets.devices.x86_cpu import EXACT_AT_EIGHT_BITS
from targets.reach.local import cpu_features, is_x86
from targets.target import Scheme

SHAPE = (8, 12, 12)
Answers = Callable[..., np.ndarray]


class Layers(nn.Module):
    """A strided convolution, a depthwise one, a grouped one, a 1×1 one and a linear layer, all in integers."""

    def __init__(self) -> None:
        super().__init__()
        self.strided, self.deep = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped, self.one = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=2), nn.Conv2d(12, 4, 1)
        self.relu, self.hidden, self.last = nn.ReLU(), nn.Linear(4 * 36, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.deep(self.relu(self.strided(x))))
        x = self.one(self.relu(self.grouped(x)))
        return self.last(self.relu(self.hidden(torch.flatten(x, 1))))  # type: ignore[no-any-return]


def lowered(*, bits: int, paired: bool = False, seed: int = 0) -> onnx.ModelProto:
    """Random weights; outputs calibrated so wide that none of them saturates."""
    scheme = Scheme(
        weight_bits=bits, unsigned_activations=True, signed_zero_point=128, why="as asked", sums_in_16_bits=paired
    )
    return lowered_with(scheme, seed=seed)


def lowered_with(scheme: Scheme, *, seed: int = 0) -> onnx.ModelProto:
    torch.manual_seed(seed)
    graph, placement = watched(Layers().eval())
    amax = {producer: 4.0 * 3**place for place, producer in enumerate(placement.activations)}
    return lowered_for(onnx_of(quantized(graph, placement, amax=amax, scheme=scheme), input_shape=SHAPE), scheme)


def product(weight: np.ndarray, *, clip: float | None = None, kind: type = np.uint8) -> onnx.ModelProto:
    """Floats → (clip) → codes of scale 1 → MatMul with this weight (K, N)."""
    constants = {"one": np.float32(1), "zero": kind(0), "codes": weight, "none": weight.dtype.type(0)}
    nodes, source = [], "input"
    if clip is not None:
        constants |= {"low": np.float32(0), "high": np.float32(clip)}
        nodes.append(helper.make_node("Clip", ["input", "low", "high"], ["clipped"]))
        source = "clipped"
    nodes += [
        helper.make_node("QuantizeLinear", [source, "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["codes", "one", "none"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["output"], name="product"),
    ]
    graph = helper.make_graph(
        nodes, "product",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, len(weight)])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, weight.shape[1]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("weight", "settings", "worst", "can"),
    [
        ([127, 127, 0], {}, 255 * 254, True),
        ([-128, 3, -1], {}, -255 * 128, False),  # the third has no neighbour
        ([-128, -1, 3], {}, -255 * 129, True),
        ([3, 127, 127, 3], {}, 255 * 130, True),  # 130 twice; the two in the middle are no neighbours
        ([64, 64, -64], {}, 32_640, False),  # the widest of 7 bits
        ([65, 64, 0], {}, 32_895, True),
        ([-64, -64, 0], {}, -32_640, False),
        ([-65, -64, 0], {}, -32_895, True),
        ([127, 127, -128], {"clip": 127.0}, 32_258, False),  # full weights, non-negative codes up to 127
        ([-128, -128, 0], {"clip": 127.0}, -32_512, False),
        ([127, 127, 0], {"kind": np.int8}, 255 * 254, True),  # stored as uint8 around 128 by the kernel
        ([127, -128, 0], {}, -255 * 128, False),  # one of each sign: beyond neither end
    ],
)
def test_12_worst_pairs_by_hand(weight: list[int], settings: dict[str, object], worst: int, can: bool) -> None:
    model = product(np.array(weight, np.int8)[:, None], **settings)  # type: ignore[arg-type]
    (found,) = saturation(model)
    assert (found.node, found.channel, found.worst_pair_sum, found.can_saturate) == ("product", 0, worst, can)


def test_unsigned_weights_run_on_a_kernel_of_32_bits() -> None:
    (found,) = saturation(product(np.array([[255], [255]], np.uint8)))
    assert found.worst_pair_sum == 255 * 510
    assert not found.can_saturate


def test_the_worst_pair_is_that_of_the_slow_search_over_3_pairs_and_all_codes() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        weight = random.integers(-128, 128, size=(6, 3)).astype(np.int8)
        slow = max(
            (
                a * int(column[i]) + b * int(column[j])
                for column in weight.T
                for i, j in ((0, 1), (2, 3), (4, 5))
                for a in (0, 255)
                for b in (0, 255)
            ),
            key=abs,
        )
        (found,) = saturation(product(weight))
        assert abs(found.worst_pair_sum) == abs(slow)


def test_of_5_layers_with_8_bits_4_can_saturate_with_7_none_and_with_codes_up_to_127_none() -> None:
    eight, seven = saturation(lowered(bits=8)), saturation(lowered(bits=7))
    assert [each.can_saturate for each in eight] == [True, False, True, True, True]  # the second is depthwise
    assert [each.can_saturate for each in seven] == [False] * 5
    assert all(abs(each.worst_pair_sum) <= 255 * 63 * 2 for each in seven)
    bounded = saturation(lowered(bits=8), highest_code=127)
    assert not any(each.can_saturate for each in bounded)


@pytest.mark.parametrize("place", [0, 2, 3, 4], ids=["strided", "grouped", "1×1", "linear"])
def test_the_worst_codes_give_the_greatest_sum_of_the_layer_at_1_place_of_the_worst_channel(place: int) -> None:
    model = lowered(bits=8)
    worst = saturation(model)[place]
    alone = layer_alone(model, worst.node)
    codes = worst_codes(model, worst.node)
    (name,) = (each.name for each in alone.graph.input)
    answers = integers_of(alone, {name: codes})[alone.graph.output[0].name].astype(int)
    random = np.random.default_rng(0).integers(0, 256, size=(200, *codes.shape[1:])).astype(codes.dtype)
    others = integers_of(alone, {name: random})[alone.graph.output[0].name].astype(int)
    ours, theirs = (np.moveaxis(each, 1, 0)[worst.channel] for each in (answers, others))
    if worst.worst_pair_sum > 0:
        assert ours.max() >= theirs.max()
    else:
        assert ours.min() <= theirs.min()
    assert set(np.unique(codes)) <= {0, 128, 255}


@pytest.mark.parametrize(("bits", "paired"), [(7, False), (8, False), (8, True)])
def test_onnx_runtime_departs_from_the_reference_at_the_worst_codes_of_any_8_bits_alone(
    bits: int, paired: bool, answered: Answers
) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    exact = [feature for feature in EXACT_AT_EIGHT_BITS if feature in cpu_features()]
    if bits == 8 and not paired and exact:
        pytest.skip(f"a processor without {exact[0]} is missing: here 8-bit products cannot saturate")
    model = lowered(bits=bits, paired=paired)
    assert any(each.can_saturate for each in saturation(model)) is (bits == 8 and not paired)
    for each in saturation(model):
        alone, codes = layer_alone(model, each.node), worst_codes(model, each.node)
        inputs = {alone.graph.input[0].name: codes}
        answers = answered(alone, inputs)
        expected = integers_of(alone, inputs)[alone.graph.output[0].name]
        assert np.array_equal(answers, expected) is not each.can_saturate, each


@pytest.mark.parametrize("highest", [127, 255])
def test_64_weights_of_127_are_exact_on_every_x86_where_codes_end_at_127(highest: int, answered: Answers) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    model = product(np.full((64, 2), 127, np.int8), clip=float(highest))
    inputs = {"input": np.full((1, 64), 1e6, np.float32)}
    answers = answered(model, inputs)
    exact = any(feature in cpu_features() for feature in EXACT_AT_EIGHT_BITS)
    assert saturation(model)[0].can_saturate is (highest == 255)
    assert np.array_equal(answers, np.full((1, 2), 64 * 127.0 * highest)) is (exact or highest == 127)


def test_a_name_that_is_no_integer_product_is_refused() -> None:
    with pytest.raises(ValueError, match="no integer product of the name 'nowhere'"):
        worst_codes(product(np.ones((2, 1), np.int8)), "nowhere")


@pytest.mark.parametrize(
    ("settings", "exact"),
    [({}, False), ({"clip": 129.0}, True), ({"clip": 130.0}, False), ({"kind": np.int8}, False)],
)  # 2 · 129 · 127 = 32 766, 2 · 130 · 127 = 33 020
def test_codes_up_to_129_are_exact_with_any_weights_of_8_bits(settings: dict[str, object], exact: bool) -> None:
    model = product(np.array([[1], [1]], np.int8), **settings)  # type: ignore[arg-type]
    assert exact_at_eight_bits(model) == {"product": exact}
    assert not saturation(model)[0].can_saturate  # as its weights are


def test_of_a_symmetric_student_3_of_5_layers_take_any_8_bits_without_vnni_and_onnx_runtime_agrees(
    answered: Answers,
) -> None:
    scheme = Scheme(weight_bits=8, unsigned_activations=False, signed_zero_point=128, why="symmetric, on x86")
    model = lowered_with(scheme)
    exact = exact_at_eight_bits(model)
    # The first layer reads the signed input and the hidden one a convolution without a ReLU; the rest read ReLUs.
    assert list(exact.values()) == [False, True, True, True, False]
    assert [each.can_saturate for each in saturation(model)] == [True, False, False, False, True]
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    for each in saturation(model):
        if exact[each.node]:
            alone, codes = layer_alone(model, each.node), worst_codes(model, each.node)
            inputs = {alone.graph.input[0].name: codes}
            assert np.array_equal(answered(alone, inputs), integers_of(alone, inputs)[alone.graph.output[0].name])
            assert codes.max() <= 127


def test_moved_codes_keep_the_127_they_end_at(answered: Answers) -> None:
    constants = {"s": np.float32(1), "z": np.uint8(0), "top": np.uint8(127), "w": np.full((4, 1), 127, np.int8),
                 "z8": np.int8(0), "shape": np.array([1, 4])}  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["all"]),
        helper.make_node("Clip", ["all", "", "top"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "s", "z"], ["x"]),
        helper.make_node("Reshape", ["x", "shape"], ["moved"]),
        helper.make_node("QuantizeLinear", ["moved", "s", "z"], ["again"]),
        helper.make_node("DequantizeLinear", ["again", "s", "z"], ["y"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z8"], ["dw"]),
        helper.make_node("MatMul", ["y", "dw"], ["output"], name="product"),
    ]
    graph = helper.make_graph(
        nodes, "moved",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (found,) = saturation(model)
    assert (found.codes, found.worst_pair_sum, found.can_saturate) == ((0, 127), 2 * 127 * 127, False)
    if is_x86():
        assert answered(model, {"input": np.full((1, 1, 4), 1e6, np.float32)}) == 4 * 127 * 127
