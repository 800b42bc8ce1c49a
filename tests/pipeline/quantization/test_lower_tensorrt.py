"""TensorRT's residual sum: what is equal to the canonical graph, and by how much the rest may differ.

TensorRT itself is not run here; what is proved is the arithmetic that its documentation states.
"""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from pipeline.quantization.integer_reference import differences, integers_of
from pipeline.quantization.lower_tensorrt import FusedAddition, additions_fused, fused_additions
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import QuantizedGraph, Step, name_of, quantized_graph
from pipeline.quantization.worst_case import layer_alone, worst_codes
from targets.schemes import TENSORRT

MakeGraph = Callable[..., onnx.ModelProto]
MakeInputs = Callable[..., np.ndarray]
SUMS = {"mixed": 1, "option A": 3, "option B": 3}


@pytest.mark.parametrize(
    ("dropped", "total", "beyond", "codes"),
    [
        (0.1, 0.1, 0.0, 1),  # half a step of the sum: one code, where both values lie about a middle
        (0.1, 0.3, 0.0, 1),
        (0.3, 0.1, 0.0, 2),  # 1.5 steps
        (0.5, 0.25, 0.0, 2),  # exactly one step, and both ends may be ties that are rounded apart
        (0.1, 0.1, 2.0, 21),  # saturated 20 steps beyond
    ],
)
def test_5_bounds_by_hand(dropped: float, total: float, beyond: float, codes: int) -> None:
    assert FusedAddition("sum", "codes", dropped, total).largest_difference(beyond=beyond) == codes


def test_a_million_random_pairs_of_values_stay_within_the_bound() -> None:
    random = np.random.default_rng(0)
    for dropped, total in ((0.1, 0.1), (0.3, 0.1), (0.5, 0.25), (0.7, 0.1)):
        value = random.normal(size=250_000) * 40 * dropped
        value[::3] = np.rint(value[::3] / dropped * 2) / 2 * dropped  # ties of the dropped pair
        other = np.rint(random.normal(size=value.size) * 20) * total / 2  # ties of the sum
        ends = np.clip(np.rint(value / dropped), -128, 127) * dropped
        apart = np.abs(np.rint((value + other) / total) - np.rint((ends + other) / total))
        beyond = np.maximum(0, np.maximum(value - 127 * dropped, -128 * dropped - value))
        fused = FusedAddition("sum", "codes", dropped, total)
        allowed = np.array([fused.largest_difference(beyond=each) for each in beyond])
        assert (apart <= allowed).all()
        assert apart[beyond == 0].max() == fused.largest_difference()  # and the bound is reached


def test_1_convolution_of_each_sum_is_left_unquantized_and_of_two_the_deeper_one(
    network: str, canonical_of: MakeGraph
) -> None:
    canonical = canonical_of(network, TENSORRT)
    lowered = additions_fused(canonical)
    onnx.checker.check_model(lowered, full_check=True)
    found = fused_additions(canonical)
    assert len(found) == SUMS[network]
    graph = quantized_graph(lowered)
    for each in found:
        addition = next(node for node in graph.nodes if name_of(node) == each.addition)
        behind = [graph.maker[name] for name in addition.input]
        assert sorted(node.op_type for node in behind) == ["Conv", "DequantizeLinear"]
        convolution = next(node for node in behind if node.op_type == "Conv")
        assert "shortcut" not in name_of(convolution)
        assert each.dropped not in graph.maker
    assert len(lowered.graph.node) == len(canonical.graph.node) - 2 * len(found)
    assert fused_additions(lowered) == ()


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_given_the_same_codes_every_other_tensor_is_equal_and_the_sums_stay_within_their_bound(
    size: float, network: str, canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    canonical = canonical_of(network, TENSORRT)
    lowered = lowered_for(canonical, TENSORRT)
    ours = integers_of(canonical, {"input": inputs_of(size)})
    graph = quantized_graph(lowered)
    sums = {step.quantize.output[0]: step for step in graph.steps() if step.addition is not None}
    assert len(sums) == SUMS[network]
    codes = [node.output[0] for node in graph.nodes if node.op_type == "QuantizeLinear"]
    fused = {each.addition: each for each in fused_additions(canonical)}
    for name in codes:
        given = {each: ours[each] for each in codes if each != name}
        theirs = integers_of(lowered, {**given, "input": inputs_of(size)})[name]
        if name not in sums:
            assert np.array_equal(theirs, ours[name]), name
        else:
            within_bound(theirs, ours[name], sums[name], fused, convolution_values(lowered, sums[name], ours))


def test_at_the_widest_sums_of_each_fused_convolution_the_bound_holds(network: str, canonical_of: MakeGraph) -> None:
    canonical = canonical_of(network, TENSORRT)
    lowered = lowered_for(canonical, TENSORRT)
    fused = {each.addition: each for each in fused_additions(canonical)}
    random = np.random.default_rng(0)
    sums = [step for step in quantized_graph(lowered).steps() if step.addition is not None]
    assert len(sums) == SUMS[network]
    for step in sums:
        alone = layer_alone(lowered, name_of(step.node))
        own, other = (each.name for each in alone.graph.input)
        shape = [axis.dim_value for axis in alone.graph.input[1].type.tensor_type.shape.dim]
        given = {
            own: worst_codes(canonical, name_of(step.node)),
            other: random.integers(-128, 128, size=shape).astype(np.int8),
        }
        theirs = integers_of(alone, given)[step.quantize.output[0]]
        ours = integers_of(canonical, {**given, **unasked(canonical)})[step.quantize.output[0]]
        within_bound(theirs, ours, step, fused, convolution_values(lowered, step, given))


def unasked(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Zeros for the input, which must be there although codes further on are given."""
    return {"input": np.zeros([axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim], np.float32)}


def convolution_values(lowered: onnx.ModelProto, step: Step, codes: dict[str, np.ndarray]) -> np.ndarray:
    """What the convolution of a step answers before anything is added or rounded, in float32."""
    graph: QuantizedGraph = quantized_graph(lowered)
    floats = onnx.ModelProto()
    floats.CopyFrom(lowered)
    source = graph.maker[step.node.input[0]].input[0]
    kept = [graph.maker[step.node.input[0]], graph.maker[step.node.input[1]], step.node]
    del floats.graph.node[:]
    floats.graph.node.extend(kept)
    return integers_of(floats, {source: codes[source]})[step.node.output[0]]


def within_bound(
    theirs: np.ndarray, ours: np.ndarray, step: Step, fused: dict[str, FusedAddition], values: np.ndarray
) -> None:
    assert step.addition is not None
    each = fused[name_of(step.addition)]
    low, high = -128 * each.dropped_scale, 127 * each.dropped_scale
    # The values are float32 sums, of order ten: 1e-5 is a hundred units in their last place.
    beyond = np.maximum(0, np.maximum(values - high, low - values)) + 1e-5
    allowed = np.vectorize(lambda excess: each.largest_difference(beyond=float(excess)))(beyond)
    apart = np.abs(theirs.astype(int) - ours.astype(int))
    assert (apart <= allowed).all()
    assert apart.max() > 0  # the bound is not met by two graphs that are the same


def test_a_student_that_was_trained_without_those_quantizers_is_the_same_at_every_tensor(
    canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    for network, without in (("mixed", ("wide",)), ("option A", ("conv2",)), ("option B", ("conv2",))):
        canonical = canonical_of(network, TENSORRT, without)
        assert fused_additions(canonical) == ()
        lowered = lowered_for(canonical, TENSORRT)
        steps = quantized_graph(lowered).steps()
        assert sum(step.addition is not None for step in steps) == SUMS[network]
        for size in (0.0, 1.0, 100.0):
            assert differences(canonical, lowered, {"input": inputs_of(size)}) == ()


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_a_bias_on_its_grid_is_the_same_in_floats_as_in_integers(
    size: float, network: str, canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    without = {"mixed": ("wide",)}.get(network, ("conv2",))
    canonical = canonical_of(network, TENSORRT, without)
    lowered = lowered_for(canonical, TENSORRT)
    found = differences(canonical, lowered, {"input": inputs_of(size)}, float_bias=True)
    codes = [each for each in found if each.tensor != "output"]
    # One is rounded in float32 and the other in float64: a sum within 1e-6 of the middle of two codes may part. None
    # of the 5 000 did when this was written.
    assert sum(each.elements for each in codes) <= 2
