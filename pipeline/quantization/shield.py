"""Keep a float layer between two quantizers in float, where the runtime would quantize it on its own.

ONNX Runtime takes a float weight between a quantized input and a quantized output for one that was forgotten, and
rounds it to 8 bits with one scale for the whole tensor (its rewrite WeightBiasQuantization; seen with 1.31). It looks
for the quantizer directly behind the layer, or behind a ReLU or a clip. So an activation of another kind is put there,
one that changes nothing, and which the runtime computes in one go with the layer:

    LeakyReLU(x) = x for x ≥ 0, slope · x else;   slope = 1
"""

from functools import partial

from torch import fx, nn

from pipeline.candidate import Architecture
from pipeline.graph.trace import layer_of, only_user
from pipeline.quantization.insert import FOLDER
from pipeline.quantization.placement import RELU_CALLS, RELU_LAYERS, WEIGHTED

SHIELDS = "shields"


def shielded(graph: fx.GraphModule) -> fx.GraphModule:
    """A watched and quantized network, in place, with a shield behind every float layer that needs one."""
    for node in list(graph.graph.nodes):
        if not isinstance(layer_of(graph, node), WEIGHTED) or not _is_point(node.all_input_nodes[0]):
            continue
        after = only_user(node)
        while after is not None and _is_relu(graph, after):
            after = only_user(after)
        if after is None or not _is_point(after):
            continue
        if not hasattr(graph, SHIELDS):
            graph.add_module(SHIELDS, nn.Module())
        graph.get_submodule(SHIELDS).add_module(node.name, nn.LeakyReLU(1.0))
        with graph.graph.inserting_after(node):
            shield = graph.graph.call_module(f"{SHIELDS}.{node.name}", (node,))
        node.replace_all_uses_with(shield, delete_user_cb=lambda user, shield=shield: user is not shield)
    graph.graph.lint()
    graph.recompile()
    return graph


def shielded_architecture(architecture: Architecture) -> Architecture:
    """`architecture` with shields, which have no weights: what is loaded into it stays the same."""
    return partial(_shielded, architecture)


def _shielded(architecture: Architecture) -> nn.Module:
    graph = architecture()
    assert isinstance(graph, fx.GraphModule)
    return shielded(graph)


def _is_point(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).startswith(f"{FOLDER}.")


def _is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(layer_of(graph, node), RELU_LAYERS)
    return node.op in ("call_function", "call_method") and node.target in RELU_CALLS
