"""ONNX operators that work on each value by itself, and softmax, as torch layers and functions.

What placement knows as a layer (ReLU, ReLU6, sigmoid) becomes that layer; a constant of one element becomes a number,
so that an addition of it is not taken for an addition of two tensors.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_layers import parametric_relu
from pipeline.graph.onnx_node import OnnxNode

Handler = Callable[[NetworkBuilder, OnnxNode], fx.Node]


def as_layer(make: Callable[[OnnxNode], nn.Module]) -> Handler:
    """The handler of an operator that is a layer without weights."""

    def handle(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
        return builder.layer(node, make(node), builder.tensor(node, 0))

    return handle


def as_function(function: Callable[[torch.Tensor], torch.Tensor]) -> Handler:
    """The handler of an operator that is a torch function of one tensor."""

    def handle(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
        return builder.call(node, function, builder.tensor(node, 0))

    return handle


def as_arithmetic(function: Callable[[Any, Any], Any]) -> Handler:
    """The handler of an operator of two tensors, or of several taken pair by pair."""

    def handle(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
        wholes = function in (torch.maximum, torch.minimum)  # these take no numbers
        values = [operand(builder, node, place, numbers=not wholes) for place in range(len(node.inputs))]
        made = functools.reduce(lambda left, right: builder.call(node, function, left, right), values)
        return made if isinstance(made, fx.Node) else builder.tensor(node, 0)

    return handle


def as_passed_on(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Identity and Dropout in evaluation mode."""
    if node.operator == "Dropout" and node.has(2) and bool(builder.constant(node, 2, "mode").any()):
        raise node.refused("is in training mode. Export the network in evaluation mode.")
    return builder.tensor(node, 0)


def quotient(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Div; of whole numbers what is left of the point."""
    values = [operand(builder, node, place, numbers=True) for place in (0, 1)]
    if any(builder.is_whole(each) for each in values if isinstance(each, fx.Node)):
        tensors = [builder.tensor(node, place) for place in (0, 1)]
        return builder.call(node, torch.div, *tensors, rounding_mode="trunc")
    return builder.call(node, operator.truediv, *values)


def clip(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Clip: ReLU6 from 0 to 6, ReLU from 0 on, else clamp."""
    low, high = (_limit(builder, node, name, place) for name, place in (("min", 1), ("max", 2)))
    tensor, unlimited = builder.tensor(node, 0), float(np.finfo(np.float32).max)
    if builder.is_whole(tensor):
        finite = [int(each) if math.isfinite(each) else None for each in (low, high)]
        return builder.call(node, torch.clamp, tensor, *finite)
    if low == 0.0 and high == 6.0:
        return builder.layer(node, nn.ReLU6(), tensor)
    if low == 0.0 and high >= unlimited:
        return builder.layer(node, nn.ReLU(), tensor)
    if low <= -unlimited and high >= unlimited:
        return tensor
    return builder.call(node, torch.clamp, tensor, low, high)


def hard_sigmoid(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """HardSigmoid: clamp(alpha · x + beta, 0, 1); torch's own has alpha = 1/6."""
    alpha, beta, tensor = node.number("alpha", 0.2), node.number("beta", 0.5), builder.tensor(node, 0)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return builder.layer(node, nn.Hardsigmoid(), tensor)
    scaled = builder.call(node, operator.add, builder.call(node, operator.mul, tensor, alpha), beta)
    return builder.call(node, torch.clamp, scaled, 0.0, 1.0)


def softmax(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Softmax and LogSoftmax: before operator set 13 over all axes from `axis` on, since then along `axis`."""
    function = F.softmax if node.operator == "Softmax" else F.log_softmax
    tensor = builder.tensor(node, 0)
    shape = builder.shape(tensor)
    axis = node.whole("axis", 1 if node.opset < 13 else -1) % len(shape)
    if node.opset >= 13 or math.prod(shape[axis:]) == shape[axis]:
        return builder.call(node, function, tensor, dim=axis)
    flat = builder.call(node, torch.flatten, tensor, axis)
    return builder.call(node, torch.unflatten, builder.call(node, function, flat, dim=axis), axis, shape[axis:])


def operand(builder: NetworkBuilder, node: OnnxNode, place: int, *, numbers: bool) -> fx.Node | float:
    """Input number `place`; with `numbers` a constant of one element is that number, whole among whole ones."""
    values = builder.constants.get(node.inputs[place])
    others = [builder.tensors[name] for name in node.inputs if name in builder.tensors]
    widest = max((len(builder.shape(each)) for each in others), default=0)
    if numbers and values is not None and values.size == 1 and values.ndim <= widest:
        number = values.reshape(-1)[0]
        return int(number) if all(map(builder.is_whole, others)) else float(number)
    return builder.tensor(node, place)


def _limit(builder: NetworkBuilder, node: OnnxNode, name: str, place: int) -> float:
    missing = -math.inf if name == "min" else math.inf
    if node.has(place):
        return float(builder.constant(node, place, "limits").reshape(-1)[0])
    return node.number(name, missing)


POINTWISE: dict[str, Handler] = {
    "Abs": as_function(torch.abs),
    "Clip": clip,
    "Div": quotient,
    "Dropout": as_passed_on,
    "Elu": as_layer(lambda node: nn.ELU(node.number("alpha", 1.0))),
    "Erf": as_function(torch.erf),
    "Exp": as_function(torch.exp),
    "Gelu": as_layer(lambda node: nn.GELU(approximate=node.word("approximate", "none"))),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": as_layer(lambda _: nn.Hardswish()),
    "Identity": as_passed_on,
    "LeakyRelu": as_layer(lambda node: nn.LeakyReLU(node.number("alpha", 0.01))),
    "Log": as_function(torch.log),
    "LogSoftmax": softmax,
    "Max": as_arithmetic(torch.maximum),
    "Min": as_arithmetic(torch.minimum),
    "Neg": as_function(torch.neg),
    "PRelu": parametric_relu,
    "Pow": as_arithmetic(operator.pow),
    "Reciprocal": as_function(torch.reciprocal),
    "Relu": as_layer(lambda _: nn.ReLU()),
    "Sigmoid": as_layer(lambda _: nn.Sigmoid()),
    "Softmax": softmax,
    "Softplus": as_layer(lambda _: nn.Softplus()),
    "Sqrt": as_function(torch.sqrt),
    "Sub": as_arithmetic(operator.sub),
    "Sum": as_arithmetic(operator.add),
    "Tanh": as_layer(lambda _: nn.Tanh()),
}
