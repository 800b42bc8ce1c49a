"""Which layers gain by a float kernel, from times that are written here."""

from collections.abc import Callable

import onnx

from pipeline.quantization.float_kernels import quantized_products, with_float_kernels
from pipeline.quantization.kernel_choice import LayerCost, layer_costs, sets_by_gain
from pipeline.quantization.lowering import lowered_for
from targets.devices.x86_cpu import scheme_from_features
from targets.runner import LayerTime

SEVEN = scheme_from_features(())


def cost(layer: str, integer_ms: float, float_ms: float, conversions_ms: float = 0.0) -> LayerCost:
    return LayerCost(layer, integer_ms, float_ms, conversions_ms)


def test_of_6_layers_the_3_that_gain_are_proposed_then_the_1_that_gains_most() -> None:
    costs = [
        cost("a", 3, 2),
        cost("b", 1, 2),
        cost("c", 5, 1),
        cost("d", 3, 2.5),
        cost("e", 3, 2, 1.5),
        cost("f", 2, 3, -8),
    ]
    sets = sets_by_gain(costs, most=5)
    assert [[each.layer for each in chosen] for chosen in sets] == [["c", "a", "d"], ["c"]]
    assert sets_by_gain(costs, most=1) == sets[:1]
    assert sets_by_gain([cost("b", 1, 2)], most=5) == []


def test_a_layer_of_3_ms_in_integers_and_1_in_float_with_half_a_ms_of_conversions_gains_1_and_a_half() -> None:
    each = cost("a", 3, 1, 0.5)
    assert each.gain_ms == 1.5
    assert each.why == "its integer kernel is slower here: 3.000 ms, and 1.000 ms in float"


def test_conversions_are_charged_to_the_layer_that_they_stand_around(
    canonical_of: Callable[..., onnx.ModelProto],
) -> None:
    """On the way in to the next layer, on the way out to the last one; 2 of the 7 layers are found in the times."""
    integer = lowered_for(canonical_of("mixed", SEVEN), SEVEN)
    first, second, *_ = layers = quantized_products(integer)
    floating = with_float_kernels(integer, layers)

    def row(name: str, kind: str, median_ms: float) -> LayerTime:
        return LayerTime(name, kind, False, median_ms)

    ints = [row("in", "QuantizeLinear", 0.5), row(first, "QLinearConv", 4.0), row(second, "QLinearConv", 2.0)]
    floats = [
        row("in", "QuantizeLinear", 0.5), row("x", "DequantizeLinear", 0.25), row(f"{first}_nchwc", "Conv", 1.0),
        row("ReorderOutput", "ReorderOutput", 0.125), row("y", "QuantizeLinear", 0.25),
        row("z", "DequantizeLinear", 0.0625), row(f"{second}_nchwc", "Conv", 3.0),
    ]  # fmt: skip
    assert layer_costs(integer, ints, floating, floats) == [cost(first, 4, 1, 0.625), cost(second, 2, 3, 0.0625)]


def test_networks_of_7_and_of_no_layers_have_no_layer_in_common(canonical_of: Callable[..., onnx.ModelProto]) -> None:
    integer = lowered_for(canonical_of("mixed", SEVEN), SEVEN)
    empty = onnx.ModelProto()
    empty.CopyFrom(integer)
    del empty.graph.node[:]
    times = [LayerTime(name, "QLinearConv", True, 1.0) for name in quantized_products(integer)]
    assert layer_costs(integer, times, empty, []) == []
    assert len(layer_costs(integer, times, integer, times)) == len(times)
