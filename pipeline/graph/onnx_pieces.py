"""Layer norms and GELUs that operator sets before 17 and 20 leave in pieces, put together again.

    layer norm    (x − m) / √(mean((x − m)²) + ε) · γ + β,   m = mean(x), both means over the last axis
    GELU          x · (1 + erf(x / √2)) · ½

In pieces the means of a norm would be taken for pools and quantized. The pieces stay in the graph where others read
them, and are dropped where none does.
"""

import math
import operator
import re
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_layers import parameter, unfilled
from pipeline.graph.onnx_node import OnnxNode
from pipeline.graph.onnx_pointwise import as_arithmetic
from pipeline.graph.onnx_pools import reduced_axes

CLOSE = 1e-3  # of a constant that half precision may have rounded


class Shift(nn.Module):
    """Adds a constant tensor, in float: a placement of quantizers takes an addition for one of two computed tensors."""

    one_call = True  # to whoever traces the network

    def __init__(self, values: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("values", torch.from_numpy(np.array(values)))

    def forward(self, inputs: Tensor) -> Tensor:
        """The sum."""
        return inputs + self.get_buffer("values")


def sum_or_norm(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Add, which may be the end of a layer norm, or of places to words."""
    norm = _norm(builder, node)
    tensor, values = _apart(builder, node)
    if norm is not None or tensor is None or values is None or values.size == 1:
        return norm or as_arithmetic(operator.add)(builder, node)
    return builder.layer(node, Shift(values), builder.tensors[tensor])


def product_or_gelu(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Mul, which may be the end of a GELU."""
    read = _gelu_of(builder, node)
    if read is None:
        return as_arithmetic(operator.mul)(builder, node)
    return builder.layer(_named(node), nn.GELU(), builder.tensors[read])


def _norm(builder: NetworkBuilder, node: OnnxNode) -> fx.Node | None:
    scaled, shift = _apart(builder, node)
    normed, scale = _apart(builder, _maker(builder, scaled, "Mul"))
    division = _maker(builder, normed, "Div")
    if shift is None or scale is None or division is None:
        return None
    deviation, root = division.inputs
    difference, rooted = _maker(builder, deviation, "Sub"), _maker(builder, root, "Sqrt")
    variance, epsilon = _apart(builder, _maker(builder, rooted.inputs[0], "Add") if rooted else None)
    if difference is None or epsilon is None or epsilon.size != 1:
        return None
    read, mean = difference.inputs
    if read not in builder.tensors or not _is_square(builder, _averaged(builder, variance), deviation):
        return None
    width = builder.shape(builder.tensors[read])[-1]
    if _averaged(builder, mean) != read or not scale.size == scale.shape[-1] == shift.size == shift.shape[-1] == width:
        return None
    layer = unfilled(nn.LayerNorm, width, eps=float(epsilon.reshape(-1)[0]))
    layer.weight, layer.bias = parameter(scale.reshape(-1)), parameter(shift.reshape(-1))
    return builder.layer(_named(node), layer, builder.tensors[read])


def _gelu_of(builder: NetworkBuilder, node: OnnxNode) -> str | None:
    """The tensor x whose GELU the node ends."""
    factors = list(node.inputs)
    for place, name in enumerate(node.inputs):
        inner = _maker(builder, name, "Mul")
        if inner is not None:
            factors = [*inner.inputs, node.inputs[1 - place]]
            if _gelu_from(builder, factors) is not None:
                break
    return _gelu_from(builder, factors)


def _gelu_from(builder: NetworkBuilder, factors: list[str]) -> str | None:
    if len(factors) != 3:
        return None
    for one in factors:
        raised, unit = _apart(builder, _maker(builder, one, "Add"))
        error = _maker(builder, raised, "Erf")
        others = [name for name in factors if name != one]
        if not _is(unit, 1.0) or error is None or len(others) != 2:
            continue
        halves = [name for name in others if _is(builder.constants.get(name), 0.5)]
        read = next((name for name in others if name in builder.tensors), None)
        if halves and read is not None and _is_over_root_2(builder, error.inputs[0], read):
            return read
    return None


def _is_over_root_2(builder: NetworkBuilder, name: str, read: str) -> bool:
    divided, scaled = _maker(builder, name, "Div"), _maker(builder, name, "Mul")
    if divided is not None:
        return divided.inputs[0] == read and _is(builder.constants.get(divided.inputs[1]), math.sqrt(2))
    tensor, factor = _apart(builder, scaled)
    return tensor == read and _is(factor, math.sqrt(0.5))


def _is_square(builder: NetworkBuilder, name: str | None, of: str) -> bool:
    power, product = _maker(builder, name, "Pow"), _maker(builder, name, "Mul")
    if power is not None:
        return power.inputs[0] == of and _is(builder.constants.get(power.inputs[1]), 2.0)
    return product is not None and set(product.inputs) == {of}


def _averaged(builder: NetworkBuilder, name: str | None) -> str | None:
    """What `name` is the mean of over the last axis, which it keeps."""
    mean = _maker(builder, name, "ReduceMean")
    if mean is None or mean.inputs[0] not in builder.tensors or not mean.whole("keepdims", 1):
        return None
    rank = len(builder.shape(builder.tensors[mean.inputs[0]]))
    return mean.inputs[0] if reduced_axes(builder, mean, rank) == [rank - 1] else None


def _apart(builder: NetworkBuilder, node: OnnxNode | None) -> tuple[str | None, np.ndarray | None]:
    """The tensor and the constant, of one axis or of one number, that a node joins."""
    for place in (0, 1) if node is not None and len(node.inputs) == 2 else ():
        tensor, values = node.inputs[place], builder.constants.get(node.inputs[1 - place])  # type: ignore[union-attr]
        if tensor in builder.tensors and values is not None:
            return tensor, np.atleast_1d(values)
    return None, None


def _maker(builder: NetworkBuilder, name: str | None, operator_wanted: str) -> OnnxNode | None:
    made = builder.makers.get(name or "")
    return made if made is not None and made.operator == operator_wanted else None


def _is(values: np.ndarray | None, number: float) -> bool:
    return values is not None and values.size == 1 and math.isclose(values.reshape(-1)[0], number, rel_tol=CLOSE)


def _named(node: OnnxNode) -> OnnxNode:
    """The node under the name of the whole, of which it is the last piece."""
    return replace(node, name=re.sub(r"_(add|mul)(_\d+)?$", "", node.name))
