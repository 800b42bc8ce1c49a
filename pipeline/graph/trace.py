"""The network as a graph of calls (torch.fx), which placement and folding read."""

import copy
from typing import Any

import torch
from torch import fx, nn

from pipeline.errors import NetworkRefused
from pipeline.graph.attention_calls import LEFT, attention_written_out


def traced(module: nn.Module) -> fx.GraphModule:
    """The network's graph, attention written out; its sub-modules are copies, the network itself is left alone.

    Raises:
        NetworkRefused: the forward pass branches on values, so that no one graph describes it.
    """
    try:
        own = attention_written_out(copy.deepcopy(module), lambda network: _tracer().trace(network))
        graph = fx.GraphModule(own, _tracer().trace(own), type(module).__name__)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NetworkRefused(
            f"{type(module).__name__} cannot be traced into one graph ({reason}). Its forward() must not branch or "
            "loop on tensor values; move such code out of the network, or leave the quantize stage out of the recipe."
        ) from error
    for node in graph.graph.nodes:
        if node.op == "placeholder" and list(graph.graph.nodes).index(node) > 0:
            raise NetworkRefused(f"{type(module).__name__} takes more than one input ({node.name}); one is supported.")
    return without_identities(graph)


def _tracer() -> fx.Tracer:
    """Looks into every layer but torch's own, and those that say that they are `one_call`."""
    tracer = fx.Tracer()
    usual = tracer.is_leaf_module

    def is_leaf_module(m: nn.Module, module_qualified_name: str) -> bool:
        return bool(getattr(m, "one_call", False)) or usual(m, module_qualified_name)

    tracer.is_leaf_module = is_leaf_module  # type: ignore[method-assign]
    return tracer


def without_identities(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph, in place, without the layers that do nothing, which would hide what follows what."""
    for node in list(graph.graph.nodes):
        if isinstance(layer_of(graph, node), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def layer_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The sub-module that a node calls, or None."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def why_left_whole(layer: nn.Module) -> str | None:
    """Why attention inside this layer was not written out; None: it is no such layer."""
    reason: str | None = getattr(layer, LEFT, None)
    return reason


def calls(graph: fx.GraphModule, node: fx.Node, *, layers: tuple[type, ...], functions: tuple[Any, ...]) -> bool:
    """Whether `node` calls a layer of these types, one of these functions, or the tensor method of that name."""
    if node.op == "call_module":
        return isinstance(layer_of(graph, node), layers)
    if node.op == "call_function":
        return node.target in functions
    return node.op == "call_method" and node.target in functions


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that reads `node`, or None when there are several or none."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def set_layer(graph: fx.GraphModule, name: str, layer: nn.Module) -> None:
    """Put `layer` in the place of the sub-module `name`."""
    parent, _, child = name.rpartition(".")
    setattr(graph.get_submodule(parent) if parent else graph, child, layer)


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors `node` reads, in order."""
    return [item for item in node.all_input_nodes if not is_number(item)]


def is_number(node: fx.Node) -> bool:
    """Whether `node` is a size, or computed from sizes alone."""
    if node.op == "call_method" and node.target in ("size", "dim", "numel", "ndimension"):
        return True
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    computed = node.op == "call_function" and bool(node.all_input_nodes)
    return computed and all(is_number(item) for item in node.all_input_nodes)


def example_input(shape: tuple[int, ...]) -> torch.Tensor:
    """A batch of one input of the given shape (without the batch axis), zeros."""
    return torch.zeros(1, *shape)
