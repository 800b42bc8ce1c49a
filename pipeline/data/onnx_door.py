"""What an ONNX file takes, read without running it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from pipeline.errors import DataMissing, NetworkRefused

WHOLE: dict[int, str] = {TensorProto.INT64: "int64", TensorProto.INT32: "int32"}
MOVES = ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
MOST = 2**24  # up to here float32, as which a data set holds its inputs, has every whole number


@dataclass(frozen=True)
class Taken:
    """One input of a network.

    shape: without the batch axis · kind: "int64", "int32", or "float32" for floating point of any width
    below: its numbers are places in tables, of which the shortest has so many rows; None where no table is read
    """

    shape: tuple[int, ...]
    kind: str
    below: int | None

    @property
    def whole(self) -> bool:
        """Whether the network makes anything of whole numbers only."""
        return self.kind != "float32" or self.below is not None


def taken_by(model: Path) -> Taken:
    """What one input of an ONNX file is.

    Raises:
        DataMissing: there is no such file · NetworkRefused: it is no ONNX file, or has not one input of known shape.
    """
    if not model.is_file():
        raise DataMissing(f"there is no file {model}.")
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as error:  # protobuf has an error of its own in each of its implementations
        raise NetworkRefused(f"{model} is no ONNX file, or it is cut short. Export or copy it again.") from error
    constants = {constant.name for constant in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise NetworkRefused(f"{model} has {len(inputs)} inputs ({names}); networks with exactly one are supported.")
    lengths = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim]
    if len(lengths) < 2 or min(lengths[1:]) < 1:
        raise NetworkRefused(
            f"the input '{inputs[0].name}' of {model} has the shape {lengths} (0: not fixed); all but the batch axis "
            "must be fixed. Export the model with a fixed input size."
        )
    return Taken(tuple(lengths[1:]), kind_of(inputs[0]), rows_read(graph, inputs[0].name))


def asked(model: onnx.ModelProto, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs by the name of the model's one input, as what it takes."""
    (door,) = model.graph.input
    return {door.name: inputs.astype(WHOLE.get(door.type.tensor_type.elem_type, inputs.dtype), copy=False)}


def kind_of(door: onnx.ValueInfoProto) -> str:
    """What an input is made of, as `Taken` names it."""
    return WHOLE.get(door.type.tensor_type.elem_type, "float32")


def rows_read(graph: onnx.GraphProto, door: str) -> int | None:
    """How many rows the shortest table has from which rows are taken by the numbers of the input `door` themselves."""
    tables = {constant.name: list(constant.dims) for constant in graph.initializer}
    same, lengths = {door}, []
    for node in graph.node:
        first = node.input[0] if node.input else ""
        if node.op_type == "Constant":
            value = next((each.t for each in node.attribute if each.name == "value"), onnx.TensorProto())
            tables[node.output[0]] = list(value.dims)
        elif node.op_type == "Gather" and first in tables and node.input[1] in same:
            axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
            lengths += tables[first][axis : axis + 1] if axis >= 0 else []
        elif node.op_type in ("Cast", "Identity") and first in tables:
            tables[node.output[0]] = tables[first]
        elif node.op_type in MOVES and first in same:
            same.update(node.output)
    return min(lengths, default=None)
