"""An ONNX operator that torch has not, or that is not known here, kept as it is: in float, answered by ONNX Runtime.

A file with such an operator can still be calibrated, quantized around it and written out again; it cannot be trained,
for the operator has no gradient. One layer answers one output: an operator with several is computed once for each of
those that are read, and ONNX Runtime's own rewriting makes one of them again.
"""

from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, TensorProto, helper, numpy_helper, version_converter
from torch import Tensor, fx, nn

from pipeline.errors import NetworkRefused
from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_from_torch import OPSET
from pipeline.graph.onnx_node import OnnxNode
from targets.engines.session import onnx_runtime, runtime_errors

IR_VERSION = 8  # the one that came with operator set 15: every ONNX Runtime that is supported reads it
LETTERS = {  # how torch's exporter is told the type of an attribute
    AttributeProto.INT: "i", AttributeProto.INTS: "i", AttributeProto.FLOAT: "f", AttributeProto.FLOATS: "f",
    AttributeProto.STRING: "s", AttributeProto.STRINGS: "s", AttributeProto.TENSOR: "t",
}  # fmt: skip


class ForeignOperator(nn.Module):
    """The output number `output` of one ONNX node; called with its inputs that are given, in order."""

    one_call = True  # to whoever traces the network

    def __init__(self, node: onnx.NodeProto, *, output: int) -> None:
        super().__init__()
        self.operator = node.op_type
        self.node = node.SerializeToString()
        self.output = output
        self._session: Any = None

    def forward(self, *inputs: Tensor) -> Tensor:
        """The operator's answer; no gradient passes."""
        answer: Tensor = _Answer.apply(self, *inputs)  # type: ignore[no-untyped-call]
        return answer

    def answer(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """What ONNX Runtime answers."""
        arrays = [np.ascontiguousarray(each.detach().numpy()) for each in inputs]
        if self._session is None:
            self._session = _session(self.proto(), arrays)
        named = {f"input_{place}": array for place, array in enumerate(arrays)}
        try:
            return torch.from_numpy(np.array(self._session.run([f"output_{self.output}"], named)[0]))
        except runtime_errors() as error:
            raise RuntimeError(str(error).strip().splitlines()[0]) from error

    def proto(self) -> onnx.NodeProto:
        """The node, its given inputs and its outputs numbered."""
        node = onnx.NodeProto()
        node.ParseFromString(self.node)
        return node

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a copy opens a session of its own


class _Answer(torch.autograd.Function):
    @staticmethod
    def symbolic(g: Any, layer: ForeignOperator, *inputs: Any) -> Any:
        node = layer.proto()
        given = iter(inputs)
        named = [next(given) if name else _left_out(g) for name in node.input]
        domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
        made = g.op(f"{domain}{node.op_type}", *named, outputs=len(node.output), **_settings(node))
        return made[layer.output] if len(node.output) > 1 else made

    @staticmethod
    def forward(ctx: Any, layer: ForeignOperator, *inputs: Tensor) -> Tensor:
        ctx.operator = layer.operator
        return layer.answer(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError(
            f"the operator {ctx.operator} of the ONNX file has no gradient here: the network cannot be trained, only "
            "quantized without training (--no-training)."
        )


def is_known_here(read: OnnxNode) -> bool:
    """Whether ONNX Runtime may know the operator: the standard has it, or it is one of the runtime's own."""
    *domain, name = read.operator.split(".")
    return domain == ["com", "microsoft"] or (not domain and onnx.defs.has(name, read.opset))


def foreign(builder: NetworkBuilder, node: onnx.NodeProto, read: OnnxNode) -> list[fx.Node]:
    """A call for each output of the node that is read.

    Raises:
        NetworkRefused: it changed its meaning since the file's operator set and cannot be converted, ONNX Runtime does
            not know it, or it mixes the inputs of a batch.
    """
    kept = _converted(node, read)
    given = [place for place, name in enumerate(read.inputs) if name]
    tensors = [builder.tensor(read, place) for place in given]
    made = []
    for output, name in enumerate(read.outputs):
        wanted = bool(name) and (bool(builder.readers.get(name)) or output == 0)
        made.append(builder.layer(read, ForeignOperator(kept, output=output), *tensors) if wanted else None)
    return [each if each is not None else made[0] for each in made]  # type: ignore[misc]


def _converted(node: onnx.NodeProto, read: OnnxNode) -> onnx.NodeProto:
    """The node for the operator set that is exported, with numbered inputs and outputs."""
    kept = onnx.NodeProto()
    kept.CopyFrom(node)
    converted: onnx.NodeProto
    given = iter(range(len(node.input)))
    kept.input[:] = [f"input_{next(given)}" if name else "" for name in node.input]
    kept.output[:] = [f"output_{place}" for place in range(len(node.output))]
    if read.opset == OPSET or node.domain not in ("", "ai.onnx"):
        return kept
    since = [onnx.defs.get_schema(node.op_type, opset).since_version for opset in (read.opset, OPSET)]
    if since[0] == since[1]:
        return kept
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in kept.input if name]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in kept.output]
    graph = helper.make_graph([kept], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", read.opset)], ir_version=IR_VERSION)
    try:
        graph = version_converter.convert_version(model, OPSET).graph
        (converted,) = [] if graph.initializer else list(graph.node)
    except (RuntimeError, ValueError) as error:
        raise NetworkRefused(
            f"{read.shown} has another meaning in operator set {OPSET}, which is written here, than in {read.opset}. "
            f"Export the network with opset_version={OPSET}."
        ) from error
    return converted


def _session(node: onnx.NodeProto, arrays: list[np.ndarray]) -> Any:
    runtime = onnx_runtime()
    inputs = [
        helper.make_tensor_value_info(
            f"input_{place}", helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim
        )
        for place, array in enumerate(arrays)
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    imports = [helper.make_opsetid("", OPSET)]
    if node.domain not in ("", "ai.onnx"):
        imports.append(helper.make_opsetid(node.domain, 1))
    graph = helper.make_graph([node], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except runtime_errors() as error:
        raise RuntimeError(str(error).strip().splitlines()[0]) from error


def _left_out(g: Any) -> Any:
    """What stands for an optional input that is not given, in the way of torch's own exporter."""
    nothing = g.op("prim::Constant")
    nothing.setType(torch._C.OptionalType.ofTensor())
    return nothing


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes as torch's exporter wants them: each name with the letter of its type."""
    settings = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            value = torch.from_numpy(np.array(numpy_helper.to_array(value)))
        elif attribute.type == AttributeProto.STRING:
            value = value.decode()
        elif attribute.type == AttributeProto.STRINGS:
            value = [each.decode() for each in value]
        elif attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
            value = list(value)
        settings[f"{attribute.name}_{LETTERS[attribute.type]}"] = value
    return settings
