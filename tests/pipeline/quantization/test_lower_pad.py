"""Padding moved into the integers changes no value."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.quantization.lower_pad import padded_in_integers


def padding_between_quantizers(*, zero: int, second_scale: float, value: float | None) -> onnx.ModelProto:
    scales = {"s1": np.float32(0.05), "s2": np.float32(second_scale), "z1": np.uint8(zero), "z2": np.uint8(zero)}
    constants = [numpy_helper.from_array(np.asarray(number), name) for name, number in scales.items()]
    constants.append(numpy_helper.from_array(np.array([0, 1, 0, 0, 0, 2, 0, 0]), "pads"))
    reads = ["real", "pads"]
    if value is not None:
        constants.append(numpy_helper.from_array(np.float32(value), "value"))
        reads.append("value")
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s1", "z1"], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", "s1", "z1"], ["real"]),
        helper.make_node("Pad", reads, ["padded"], name="pad"),
        helper.make_node("QuantizeLinear", ["padded", "s2", "z2"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s2", "z2"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 4, 4])
    told = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 6, 4, 4])
    graph = helper.make_graph(nodes, "pad", [given], [told], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": inputs})[0])


@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("value", [None, 0.0])
def test_1_pad_between_equal_quantizers_becomes_integer_and_every_bit_stays(zero: int, value: float | None) -> None:
    model = padding_between_quantizers(zero=zero, second_scale=0.05, value=value)
    lowered = padded_in_integers(model)
    assert [node.op_type for node in lowered.graph.node] == ["QuantizeLinear", "Pad", "DequantizeLinear"]
    inputs = np.random.default_rng(0).normal(0, 10, size=(1, 3, 4, 4)).astype(np.float32)  # saturating values too
    np.testing.assert_array_equal(answer(lowered, inputs), answer(model, inputs))


def test_padding_with_1_or_between_2_scales_stays_as_it_is() -> None:
    for model in (
        padding_between_quantizers(zero=0, second_scale=0.05, value=1.0),
        padding_between_quantizers(zero=0, second_scale=0.06, value=0.0),
    ):
        assert len(padded_in_integers(model).graph.node) == 5
