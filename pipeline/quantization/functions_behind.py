"""Which tensors one activation function alone reads, and which one: it says what their values are worth."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from calibration.two_ended import Function
from pipeline.graph.trace import calls, layer_of, only_user
from pipeline.quantization.insert import FOLDER
from pipeline.quantization.placement import LEAKY_CALLS, LEAKY_LAYERS, RELU_CALLS, RELU_LAYERS

# Each value on its own, and the same for every channel.
LAYERS = (
    *LEAKY_LAYERS, nn.SiLU, nn.GELU, nn.Hardswish, nn.Mish, nn.ELU, nn.SELU, nn.CELU, nn.Softplus, nn.Softsign,
    nn.Sigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh,
)  # fmt: skip
CALLS = (
    *LEAKY_CALLS, F.silu, F.gelu, F.hardswish, F.mish, F.elu, F.selu, F.celu, F.softplus, F.softsign, F.sigmoid,
    F.hardsigmoid, F.tanh, F.hardtanh, torch.sigmoid, torch.tanh, "sigmoid", "tanh",
)  # fmt: skip


def functions_behind(graph: fx.GraphModule) -> dict[str, Function]:
    """Of a watched graph: the name of a point → the function that alone reads it."""
    found: dict[str, Function] = {}
    several: set[str] = set()
    for node in graph.graph.nodes:
        name = str(node.target)
        if node.op != "call_module" or not name.startswith(f"{FOLDER}."):
            continue
        after = only_user(node)
        if name in found or name in several or after is None or not calls(graph, after, layers=LAYERS, functions=CALLS):
            found.pop(name, None)
            several.add(name)
            continue
        found[name] = _function(graph, after)
    return found


def function_after(graph: fx.GraphModule, name: str) -> Function | None:
    """The function that alone reads what the layer of node `name` writes, quantized in between or not; ReLUs too."""
    after = only_user(next(node for node in graph.graph.nodes if node.name == name))
    while after is not None and str(after.target).startswith(f"{FOLDER}."):
        after = only_user(after)
    known = after is not None and calls(graph, after, layers=(*LAYERS, *RELU_LAYERS), functions=(*CALLS, *RELU_CALLS))
    return _function(graph, after) if known and after is not None else None


def _function(graph: fx.GraphModule, node: fx.Node) -> Function:
    layer = layer_of(graph, node)
    if layer is not None:
        return layer
    called = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
    return partial(_with, called, node.args[1:], dict(node.kwargs))


def _with(called: Any, args: tuple[object, ...], settings: dict[str, object], values: Tensor) -> Tensor:
    result: Tensor = called(values, *args, **settings)
    return result
