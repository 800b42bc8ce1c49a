"""The integer reference against ONNX Runtime, network by network, and what it proves: a lowering changes no tensor."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.quantization.integer_reference import Difference, differences, integers_of
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.quantized_graph import quantized_graph
from targets.engines.ort import OnnxRuntime
from targets.reach.local import is_x86
from targets.target import Scheme

Answers = Callable[..., np.ndarray]
MakeGraph = Callable[..., onnx.ModelProto]
MakeInputs = Callable[..., np.ndarray]
SEVEN = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="exact on every x86")
SYMMETRIC = Scheme(weight_bits=7, unsigned_activations=False, signed_zero_point=128, why="TensorRT's student, on x86")


def cut_at(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """The model up to the node that makes this tensor of codes, which it answers."""
    graph = quantized_graph(model)
    waiting, kept = [tensor], set()
    while waiting:
        node = graph.maker.get(waiting.pop())
        if node is not None and node.output[0] not in kept:
            kept.add(node.output[0])
            waiting.extend(node.input)
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[:], cut.graph.output[:]
    cut.graph.node.extend(node for node in graph.nodes if node.output[0] in kept)
    kind = graph.pair(graph.maker[tensor]).zero.dtype
    cut.graph.output.append(helper.make_tensor_value_info(tensor, helper.np_dtype_to_tensor_dtype(kind), None))
    return cut


@pytest.mark.parametrize("scheme", [SEVEN, SYMMETRIC], ids=["unsigned", "symmetric"])
def test_each_tensor_of_a_lowered_network_is_the_canonical_one_on_inputs_of_4_sizes(
    network: str, scheme: Scheme, canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    canonical = canonical_of(network, scheme)
    lowered = lowered_for(canonical, scheme)
    kinds = {each.data_type for each in canonical.graph.initializer}
    assert TensorProto.INT8 in kinds
    for size in (0.0, 0.1, 1.0, 100.0):  # zeros, small, as calibrated, and saturated on both sides
        values = integers_of(canonical, {"input": inputs_of(size)})
        assert differences(canonical, lowered, {"input": inputs_of(size)}) == ()
        if size == 100.0:
            codes = values[canonical.graph.node[0].output[0]]
            ends = np.iinfo(codes.dtype)
            assert ((codes == ends.min) | (codes == ends.max)).mean() > 0.9
    compared = [node for node in canonical.graph.node if node.op_type == "QuantizeLinear"]
    assert len(compared) > 9


def test_1_wrong_zero_point_is_found_at_the_first_tensor_that_differs(
    canonical_of: MakeGraph, inputs_of: MakeInputs
) -> None:
    canonical = canonical_of("option A", SEVEN)
    lowered = lowered_for(canonical, SEVEN)
    quantizers = [node for node in lowered.graph.node if node.op_type == "QuantizeLinear"]
    wrong = next(node for node in quantizers[1:] if node.input[2].endswith("zero_128"))
    constant = next(each for each in lowered.graph.initializer if each.name == wrong.input[2])
    constant.CopyFrom(numpy_helper.from_array(np.uint8(127), constant.name))
    found = differences(canonical, lowered, {"input": inputs_of(4.0)})
    assert isinstance(found[0], Difference)
    assert found[0].tensor == wrong.output[0]
    assert found[0].largest == 1.0  # every code one step lower, read around 128
    assert 0.5 * found[0].of < found[0].elements < found[0].of  # those that saturate stay at the ends
    assert found[-1].tensor == "output"


def test_a_tensor_that_only_1_graph_quantizes_is_named(canonical_of: MakeGraph, inputs_of: MakeInputs) -> None:
    canonical = canonical_of("option A", SEVEN)
    lowered = lowered_for(canonical, SEVEN)
    lowered.graph.node[-1].output[0] = "renamed"
    found = differences(canonical, lowered, {"input": inputs_of(1.0)})
    assert [(each.tensor, each.largest) for each in found] == [("output", None)]


def test_with_7_bits_each_tensor_of_onnx_runtime_is_the_integer_of_the_reference(
    network: str, canonical_of: MakeGraph, inputs_of: MakeInputs, answered: Answers
) -> None:
    lowered = lowered_for(canonical_of(network, SEVEN), SEVEN)
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    for size in (1.0, 100.0):
        inputs = {"input": inputs_of(size)}
        expected = integers_of(lowered, inputs, as_avx2=True)
        ends = [step.quantize.output[0] for step in quantized_graph(lowered).steps()]
        assert len(ends) >= 8
        for tensor in ends:
            assert np.array_equal(answered(cut_at(lowered, tensor), inputs), expected[tensor]), tensor


def test_the_engine_gives_the_answers_of_the_reference_within_1e_6_of_their_size(
    network: str, canonical_of: MakeGraph, inputs_of: MakeInputs, tmp_path: Path
) -> None:
    lowered = lowered_for(canonical_of(network, SEVEN), SEVEN)
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    onnx.save(lowered, tmp_path / "lowered.onnx")
    engine = OnnxRuntime()
    engine.build(tmp_path / "lowered.onnx", tmp_path / "model.engine.onnx", threads=1)
    runner = engine.open(tmp_path / "model.engine.onnx", threads=1)
    for size in (1.0, 100.0):
        expected = integers_of(lowered, {"input": inputs_of(size)}, as_avx2=True)["output"]
        # The last layer is float: 32 products summed in another order, 2⁻²⁴ = 6e-8 each. One wrong code costs 1e-3.
        room = 1e-6 * float(np.abs(expected).max())
        np.testing.assert_allclose(runner(inputs_of(size)), expected, rtol=0, atol=room)
    runner.close()
    steps = [step for step in quantized_graph(lowered).steps() if step.node.op_type in ("Conv", "Gemm")]
    assert engine.operators(tmp_path / "model.engine.onnx").integer == len(steps)
