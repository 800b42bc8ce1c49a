"""Codes of what is never negative, from 0 to 127 in uint8: the same values, and a ReLU that folds."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipeline.quantization.integer_reference import differences
from pipeline.quantization.lower_nonnegative import never_negative, nonnegative_from_zero
from pipeline.quantization.quantized_graph import quantized_graph

Constants = dict[str, np.ndarray | np.generic]
Answers = Callable[..., np.ndarray]


def model_of(nodes: list[NodeProto], constants: Constants) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def between(source: str, number: int, constants: Constants, *, scale: float = 0.1) -> list[NodeProto]:
    """A pair around `source`, which answers x1, x2, …"""
    constants |= {f"s{number}": np.float32(scale), f"z{number}": np.int8(0)}
    constants |= {f"t{number}": np.float32(scale), f"y{number}": np.int8(0)}
    return [
        helper.make_node("QuantizeLinear", [source, f"s{number}", f"z{number}"], [f"q{number}"], name=f"Q{number}"),
        helper.make_node("DequantizeLinear", [f"q{number}", f"t{number}", f"y{number}"], [f"x{number}"]),
    ]


@pytest.mark.parametrize(("top", "kind"), [(6.0, "Clip"), (12.65, "Clip"), (12.7, "Relu"), (100.0, "Relu")])
def test_a_clip_vanishes_where_it_ends_at_code_127_or_later(top: float, kind: str, answered: Answers) -> None:
    constants: Constants = {"low": np.float32(0), "top": np.float32(top)}
    clip = helper.make_node("Clip", ["input", "low", "top"], ["clipped"], name="clip")
    nodes = [clip, *between("clipped", 1, constants), helper.make_node("Identity", ["x1"], ["output"])]
    model = model_of(nodes, constants)
    lowered = nonnegative_from_zero(model)
    # 12.65 / 0.1 = 126.5, which rounds to 126.
    assert [node.op_type for node in lowered.graph.node][:3] == [kind, "QuantizeLinear", "Clip"]
    assert quantized_graph(lowered).pair(lowered.graph.node[1]).zero.dtype == np.uint8
    inputs = np.linspace(-20, 20, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    assert differences(model, lowered, {"input": inputs}) == ()
    np.testing.assert_array_equal(answered(lowered, {"input": inputs}), answered(model, {"input": inputs}))


def test_sums_pools_and_concats_of_2_relus_are_never_negative_and_with_1_signed_branch_they_may_be() -> None:
    constants: Constants = {
        "minus": np.full((1, 1, 1, 1), -1, np.float32), "plus": np.ones((1, 1, 1, 1), np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Relu", ["input"], ["positive"]),
        helper.make_node("Add", ["positive", "positive"], ["sum"]),
        helper.make_node("Add", ["positive", "input"], ["signed sum"]),
        helper.make_node("Add", ["positive", "minus"], ["lowered"]),
        helper.make_node("Add", ["positive", "plus"], ["raised"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"]),
        helper.make_node("Concat", ["sum", "raised"], ["both"], axis=1),
        helper.make_node("Concat", ["sum", "signed sum"], ["output"], axis=1),
        helper.make_node("Mul", ["positive", "plus"], ["product"]),  # not known: its other factor may be anything
    ]
    found = never_negative(quantized_graph(model_of(nodes, constants)))
    assert found == {"positive", "sum", "raised", "mean", "both"}


@pytest.mark.parametrize(("value", "scale", "cuts"), [(0.0, 0.1, 1), (3.0, 0.1, 2), (-3.0, 0.1, 1), (0.0, 0.2, 2)])
def test_padding_needs_a_second_cut_only_where_something_is_added_or_the_scale_is_another(
    value: float, scale: float, cuts: int, answered: Answers
) -> None:
    constants: Constants = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "value": np.float32(value)}
    nodes = [
        helper.make_node("Relu", ["input"], ["positive"]),
        *between("positive", 1, constants),
        helper.make_node("Pad", ["x1", "pads", "value"], ["padded"]),
        *between("padded", 2, constants, scale=scale),
        helper.make_node("Identity", ["x2"], ["output"]),
    ]
    model = model_of(nodes, constants)
    lowered = nonnegative_from_zero(model)
    assert sum(node.op_type == "Clip" for node in lowered.graph.node) == cuts
    kinds = [quantized_graph(lowered).pair(node).zero.dtype.name for node in lowered.graph.node if node.name == "Q2"]
    assert kinds == ["int8" if value < 0 else "uint8"]
    inputs = np.random.default_rng(0).normal(0, 20, size=(1, 2, 4, 4)).astype(np.float32)  # saturated too
    assert differences(model, lowered, {"input": inputs}) == ()
    np.testing.assert_array_equal(answered(lowered, {"input": inputs}), answered(model, {"input": inputs}))
