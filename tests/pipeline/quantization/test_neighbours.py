"""Neighbours: which weights they are is asked of the processor; sums by hand; a quantizer that keeps them bounded."""

import itertools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pipeline.quantization.fake_quant import GridPoint, QuantizedWeight
from pipeline.quantization.learned_steps import steps_fixed, with_learned_steps
from pipeline.quantization.neighbours import MOST, code_pairs, neighbour_sums
from pipeline.quantization.worst_case import saturation
from targets.devices.x86_cpu import EXACT_AT_EIGHT_BITS
from targets.engines.openvino_model import compiled_from_onnx
from targets.reach.local import cpu_features, is_x86

Answers = Callable[..., np.ndarray]
SHAPES = [(16, 1, 1), (7, 1, 1), (8, 2, 1), (3, 3, 1), (5, 2, 1), (8, 2, 4), (4, 2, 4)]  # channels, kernel, groups


def two_of_127(channels: int, kernel: int, groups: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """A convolution whose output channels hold 127 at two places, another two each: (model, places (K, 2))."""
    count = channels // groups * kernel * kernel
    places = np.array(list(itertools.combinations(range(count), 2)) * groups)  # (K, 2)
    codes = np.zeros((len(places), count), np.int8)
    np.put_along_axis(codes, places, 127, axis=1)
    constants = {
        "codes": codes.reshape(len(places), -1, kernel, kernel), "zeros": np.zeros(len(places), np.int8),
        "steps": np.ones(len(places), np.float32), "one": np.float32(1), "wide": np.float32(300),
        "none": np.uint8(0), "none2": np.uint8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "none"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "none"], ["x"]),
        helper.make_node("DequantizeLinear", ["codes", "steps", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["y"], group=groups, name="product"),
        helper.make_node("QuantizeLinear", ["y", "wide", "none2"], ["z"]),
        helper.make_node("DequantizeLinear", ["z", "wide", "none2"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "pairs",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, kernel, kernel])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, len(places), 1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), places


def saturates_here() -> bool:
    return is_x86() and not any(feature in cpu_features() for feature in EXACT_AT_EIGHT_BITS)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_where_two_weights_of_127_saturate_they_are_neighbours(
    shape: tuple[int, int, int], runtime: str, answered: Answers, tmp_path: object
) -> None:
    if not saturates_here():
        pytest.skip("an x86 processor without VNNI is missing: here nothing saturates")
    model, places = two_of_127(*shape)
    inputs = np.full((1, shape[0], shape[1], shape[1]), 255, np.float32)
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
        file = f"{tmp_path}/pairs.onnx"
        onnx.save(model, file)
        answers = compiled_from_onnx(file, threads=1)([inputs])[0].ravel()  # type: ignore[arg-type]
    else:
        answers = answered(model, {"input": inputs}).ravel()
    saturated = np.abs(answers - 2 * 255 * 127) > 300  # a step of the output
    stored = numpy_helper.to_array(next(each for each in model.graph.initializer if each.name == "codes"))
    together = np.concatenate([(pairs == 127).all(2).any(1)[:, None] for pairs in code_pairs(stored)], 1)  # (K, orders)
    assert len(places) == len(saturated)
    assert not (saturated & ~together.any(1)).any()
    if runtime == "onnxruntime":  # whose order is the first, with no kernel that spares one of them
        assert np.array_equal(saturated, together[:, 0])
    assert saturation(model)[0].can_saturate == bool(together.any())


def test_sums_of_neighbours_of_3_channels_by_hand() -> None:
    weight = torch.tensor([[3.0, 1.0, -2.0, 5.0, -4.0], [1.0, -1.0, -2.0, -3.0, 9.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    # 3 + 1, and −2 beside 5 counts as 5; then −2 − 3 = −5, and 9 alone.
    assert neighbour_sums(weight).tolist() == [5.0, 9.0, 0.0]
    assert neighbour_sums(weight, scattered=True).tolist() == [8.0, 10.0, 0.0]


def test_of_3_channels_at_2_places_both_orders_count() -> None:
    # Input channels (C) at positions: position 0 holds 1, 2, 4 and position 1 holds 8, 16, 32.
    weight = torch.tensor([[[1.0, 8.0], [2.0, 16.0], [4.0, 32.0]]])
    # In a row 1+2, 4+8, 16+32; position by position 1+2, 4, 8+16, 32.
    assert neighbour_sums(weight).tolist() == [48.0]
    assert neighbour_sums(torch.tensor([[[1.0, 8.0], [2.0, 16.0], [4.0, 0.0]]])).tolist() == [24.0]


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(3, 6, 3), nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 3, groups=2), nn.Linear(33, 6), nn.Conv1d(5, 6, 3)],
    ids=["3×3 of 3", "1×1", "grouped", "linear", "1-d"],
)
@pytest.mark.parametrize("up", [False, True])
def test_codes_of_1_000_drawn_weights_stay_within_128_however_they_are_rounded(layer: nn.Module, up: bool) -> None:
    torch.manual_seed(0)
    for _ in range(1000 // 6):
        assert isinstance(layer.weight, torch.Tensor)
        layer.weight.data = torch.randn_like(layer.weight) ** 3
        quantizer = QuantizedWeight(layer, bits=8, sums_in_16_bits=True).quantizer
        steps = layer.weight.data / GridPoint(quantizer).scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        codes = (steps.sign() * steps.abs().ceil()).clamp(-127, 127) if up else steps.round()
        assert codes.abs().max() <= 127
        for pairs in code_pairs(codes.numpy().astype(np.int8)):
            assert max(np.maximum(pairs, 0).sum(2).max(), np.maximum(-pairs, 0).sum(2).max()) <= MOST


def test_a_depthwise_layer_keeps_its_full_8_bits_and_so_does_7_bits_without_neighbours() -> None:
    deep, plain = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3)
    assert QuantizedWeight(deep, bits=8, sums_in_16_bits=True).quantizer._amax.flatten().tolist() == (
        deep.weight.abs().flatten(1).max(1).values.tolist()
    )
    assert not QuantizedWeight(plain, bits=7, sums_in_16_bits=True).paired
    assert QuantizedWeight(plain, bits=8, sums_in_16_bits=True).paired


def test_learned_steps_of_weights_never_fall_below_what_neighbours_need() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(QuantizedWeight(nn.Linear(8, 3), bits=8, sums_in_16_bits=True))
    with_learned_steps(network, weights=True)
    learned = network[0].quantizer
    learned.size.data *= 0.5  # what an optimizer may do
    network(torch.randn(2, 8))
    least = network[0].least_amax().flatten()
    assert torch.allclose(learned.quantizer._amax.flatten(), least, rtol=1e-6)
    learned.size.data *= 0.5
    steps_fixed(network)
    assert torch.allclose(network[0].quantizer._amax.flatten(), least, rtol=1e-6)
