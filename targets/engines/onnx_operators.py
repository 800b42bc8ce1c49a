"""Which convolutions and matrix products of a graph multiply integers, and why the others do not.

Read from the graph after ONNX Runtime has rewritten it: there a product is integer or it is not, whatever the model
that was exported had hoped for. The reason is read from what stands around a float one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from targets.errors import EngineRefused
from targets.runner import OperatorRow, Operators

# The runtime's words for products of integers and of floats, across its own domains. Recurrent cells and attention
# are matrix products in one operator.
INTEGER_KINDS = frozenset({
    "QLinearConv", "ConvInteger", "QLinearConvTranspose", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulInteger16",
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "QOrderedMatMul", "QOrderedAttention",
    "DynamicQuantizeLSTM",
})  # fmt: skip
FLOAT_KINDS = frozenset({
    "Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "ConvTransposeWithDynamicPads", "DeformConv",
    "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "TransposeMatMul", "GemmFastGelu", "Einsum",
    "MatMulNBits", "MatMulBnb4", "MatMulFpQ4",
    "Attention", "MultiHeadAttention", "GroupQueryAttention", "LSTM", "GRU", "RNN", "DynamicQuantizeGRU",
})  # fmt: skip
WEIGHT_ONLY_KINDS = frozenset({"MatMulNBits", "MatMulBnb4", "MatMulFpQ4"})

# Operators that move or clip values and leave open on which side of them a tensor is quantized.
TRANSPARENT_KINDS = frozenset({
    "Relu", "Clip", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity",
    "ReorderInput", "ReorderOutput",
})  # fmt: skip


def operators_of(path: Path) -> Operators:
    """The convolutions and matrix products in this file, in the order of the graph.

    Raises:
        EngineRefused: it is not a readable ONNX file.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # the parser's own classes differ between versions of protobuf
        raise EngineRefused(f"{path} cannot be read as ONNX: {error}") from error
    if not model.graph.node:
        raise EngineRefused(f"{path} cannot be read as ONNX: it holds no graph.")
    return operators_in(model)


def operators_in(model: onnx.ModelProto) -> Operators:
    """The convolutions and matrix products in this model, those of its inner graphs included."""
    rows = tuple(_rows_in(model.graph))
    integer = sum(row.integer for row in rows)
    return Operators(integer=integer, floating=len(rows) - integer, rows=rows)


def products_quantized(model: onnx.ModelProto) -> Operators:
    """The same of a file that no runtime has rewritten: a product counts as integer when both its sides are quantized.

    Whether a runtime then multiplies integers is its own affair.
    """
    around = _Surroundings.of(model.graph)
    rows = []
    for place, node in enumerate(model.graph.node):
        if node.op_type in INTEGER_KINDS or node.op_type in FLOAT_KINDS:
            integer = node.op_type in INTEGER_KINDS or around.reads_integers(node)
            name = node.name or f"{node.op_type}_{place}"
            rows.append(OperatorRow(name, node.op_type, integer, "" if integer else around.why_float(node)))
    integers = sum(row.integer for row in rows)
    return Operators(integer=integers, floating=len(rows) - integers, rows=tuple(rows))


def _rows_in(graph: onnx.GraphProto) -> Iterator[OperatorRow]:
    around = _Surroundings.of(graph)
    for place, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{place}"
        if node.op_type in INTEGER_KINDS:
            yield OperatorRow(name, node.op_type, True, "")
        elif node.op_type in FLOAT_KINDS:
            yield OperatorRow(name, node.op_type, False, around.why_float(node))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _rows_in(attribute.g)


@dataclass(frozen=True)
class _Surroundings:
    """Who makes and who reads each tensor of a graph."""

    constants: frozenset[str]
    maker: dict[str, onnx.NodeProto]
    readers: dict[str, list[onnx.NodeProto]]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> "_Surroundings":
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        maker = {name: node for node in graph.node for name in node.output}
        return cls(frozenset(constant.name for constant in graph.initializer), maker, readers)

    def reads_integers(self, node: onnx.NodeProto) -> bool:
        """Whether both factors of this product come out of a DequantizeLinear."""
        return node.op_type not in WEIGHT_ONLY_KINDS and all(map(self._comes_from_integers, node.input[:2]))

    def why_float(self, node: onnx.NodeProto) -> str:
        """What is missing for this product to be an integer one."""
        if node.op_type in WEIGHT_ONLY_KINDS:
            return "input not quantized: only its weight is an integer, which is multiplied as a float"
        reasons = []
        for name in node.input[:2]:
            role = "weight" if self._is_constant(name) else "input"
            if not self._comes_from_integers(name) and f"{role} not quantized" not in reasons:
                reasons.append(f"{role} not quantized")
        if not any(self._goes_to_integers(name) for name in node.output):
            reasons.append("output not quantized")
        return ", ".join(reasons) or "quantized on every side, but in a form that the runtime has no integer kernel for"

    def _comes_from_integers(self, name: str) -> bool:
        maker = self.maker.get(name)
        if maker is None:
            return False  # an input of the graph, or a float constant
        if maker.op_type == "DequantizeLinear":
            return True
        return maker.op_type in TRANSPARENT_KINDS and self._comes_from_integers(maker.input[0])

    def _goes_to_integers(self, name: str) -> bool:
        return any(
            reader.op_type == "QuantizeLinear"
            or (reader.op_type in TRANSPARENT_KINDS and self._goes_to_integers(reader.output[0]))
            for reader in self.readers.get(name, ())
        )

    def _is_constant(self, name: str) -> bool:
        """A stored tensor, or one that is only computed from stored ones (a weight behind its DequantizeLinear)."""
        if name in self.constants:
            return True
        maker = self.maker.get(name)
        return maker is not None and all(self._is_constant(inner) for inner in maker.input if inner)
