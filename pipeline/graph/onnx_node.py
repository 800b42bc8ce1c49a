"""One ONNX operator call, read into Python values."""

import keyword
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pipeline.errors import NetworkRefused

# A layer is called as its place in the network is called, so its type adds nothing to the name.
NAMED_BY_PLACE = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "PRelu",
                  "LSTM", "GRU", "RNN")  # fmt: skip


@dataclass(frozen=True)
class OnnxNode:
    """An operator call.

    operator: its type, with the domain before it where that is not the standard one · name: readable, an identifier
    shown: how a message names it · opset: version of the operator set, which decides where settings stand
    """

    operator: str
    name: str
    shown: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int

    def has(self, place: int) -> bool:
        """Whether the optional input number `place` is given."""
        return place < len(self.inputs) and bool(self.inputs[place])

    def whole(self, attribute: str, default: int) -> int:
        """A setting that is a whole number."""
        return int(self.attributes.get(attribute, default))

    def number(self, attribute: str, default: float) -> float:
        """A setting that is a number."""
        return float(self.attributes.get(attribute, default))

    def word(self, attribute: str, default: str) -> str:
        """A setting that is a word."""
        return str(self.attributes.get(attribute, default))

    def several(self, attribute: str, default: list[int]) -> list[int]:
        """A setting that is a list of whole numbers."""
        return [int(each) for each in self.attributes.get(attribute, default)]

    def refused(self, reason: str) -> NetworkRefused:
        """The error that names this node."""
        return NetworkRefused(f"{self.shown} {reason}")


def node_from_onnx(node: onnx.NodeProto, *, opset: int, number: int) -> OnnxNode:
    """The call number `number` of the graph."""
    if any(isinstance(text, bytes) for text in (node.name, node.op_type, node.domain, *node.input, *node.output)):
        raise NetworkRefused(f"node number {number} has a name that is no text: the file is damaged. Export it again.")
    operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    shown = f"{operator} node {node.name!r}" if node.name else f"{operator} node number {number}"
    attributes = {attribute.name: _value(attribute) for attribute in node.attribute}
    name = readable_name(node.name, node.op_type) or f"{_words(node.op_type)}_{number}"
    return OnnxNode(operator, name, shown, tuple(node.input), tuple(node.output), attributes, opset)


def readable_name(name: str, operator: str) -> str:
    """An identifier from an ONNX name; empty when there is none in it.

    >>> readable_name("/layer1/layer1.0/conv1/Conv", "Conv"), readable_name("/layer1/layer1.0/Add", "Add")
    ('layer1_0_conv1', 'layer1_0_add')
    >>> readable_name("Conv_12", "Conv"), readable_name("12", "Relu")
    ('conv_12', 'relu_12')
    """
    parts: list[str] = []
    for part in (each for each in name.split("/") if each):
        if parts and part.startswith(f"{parts[-1]}."):  # layer1/layer1.0: the exporter repeats the list's own name
            parts[-1] = part
        else:
            parts.append(part)
    repeated = len(parts) > 1 and re.sub(r"_\d+$", "", parts[-1]) == operator
    if repeated and (operator in NAMED_BY_PLACE or parts[-2].lower().startswith(operator.lower())):
        parts = parts[:-1]
    words = _words("_".join(parts))
    if words and (words[0].isdigit() or keyword.iskeyword(words)):
        words = f"{_words(operator)}_{words}"
    return words


def constant_from_tensor(tensor: TensorProto) -> np.ndarray:
    """Its values; every floating point type becomes float32."""
    try:
        return as_float32(numpy_helper.to_array(tensor))
    except (LookupError, TypeError, ValueError) as error:
        raise NetworkRefused(f"the constant {tensor.name!r} is damaged ({error}). Export the network again.") from error


def as_float32(values: np.ndarray) -> np.ndarray:
    """The same values, in float32 when they are floating point of any width; bfloat16 counts, too."""
    whole = values.dtype.kind in "iub" or values.dtype.kind in "OSU"
    return values if whole else values.astype(np.float32)


def _value(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return constant_from_tensor(value) if isinstance(value, TensorProto) else value


def _words(text: str) -> str:
    return re.sub(r"\W+|_+", "_", text, flags=re.ASCII).strip("_").lower()
