"""ONNX operators that compare, join truth values, choose by them, and turn one kind of number into another."""

import operator
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import fx

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_node import OnnxNode
from pipeline.graph.onnx_pointwise import Handler, as_arithmetic, as_function

KINDS: dict[int, torch.dtype] = {
    TensorProto.INT32: torch.int32, TensorProto.INT64: torch.int64, TensorProto.BOOL: torch.bool,
    **dict.fromkeys(
        (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16), torch.float32
    ),
}  # fmt: skip


def as_logic(function: Any) -> Handler:
    """The handler of an operator of two tensors of truth values, none of which may be a number."""

    def handle(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
        return builder.call(node, function, builder.tensor(node, 0), builder.tensor(node, 1))

    return handle


def cast(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Cast; between floating point types nothing happens, for everything is computed in float32."""
    kind, tensor = KINDS.get(node.whole("to", 0)), builder.tensor(node, 0)
    if kind is None:
        wanted = TensorProto.DataType.Name(node.whole("to", 0)).lower()
        raise node.refused(
            f"turns values of the network into {wanted}; floating point, int64, int32 and bool are supported. "
            "Export the network without it."
        )
    own = builder.short[tensor].dtype
    return tensor if kind == own or (kind.is_floating_point and own.is_floating_point) else builder.method(
        node, "to", tensor, kind
    )  # fmt: skip


def chosen(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Where: a tensor with one number in some of its places is `masked_fill`, as attention writes its mask."""
    condition = builder.tensor(node, 0)
    for place, other in ((1, 2), (2, 1)):
        values = builder.constants.get(node.inputs[place])
        kept = builder.tensors.get(node.inputs[other])
        if values is None or kept is None or values.size > 1:
            continue
        shape = builder.shape(kept)
        if np.broadcast_shapes(builder.shape(condition), values.shape, shape) != shape:
            continue
        if place == 2:
            condition = builder.call(node, torch.logical_not, condition)
        return builder.call(node, torch.masked_fill, kept, condition, values.reshape(-1)[0].item())
    return builder.call(node, torch.where, condition, builder.tensor(node, 1), builder.tensor(node, 2))


CONDITIONS: dict[str, Handler] = {
    "And": as_logic(torch.logical_and),
    "Cast": cast,
    "Equal": as_arithmetic(operator.eq),
    "Greater": as_arithmetic(operator.gt),
    "GreaterOrEqual": as_arithmetic(operator.ge),
    "Less": as_arithmetic(operator.lt),
    "LessOrEqual": as_arithmetic(operator.le),
    "Not": as_function(torch.logical_not),
    "Or": as_logic(torch.logical_or),
    "Where": chosen,
    "Xor": as_logic(torch.logical_xor),
}
