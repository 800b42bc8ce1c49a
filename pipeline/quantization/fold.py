"""Fold batch normalisation into the convolution or linear layer before it.

    W' = W · γ / √(σ² + ε),   b' = (b − μ) · γ / √(σ² + ε) + β        (Jacob et al. 2018, arXiv:1712.05877, section 3.2)

Quantizers are placed on the folded network, so the integer weights are the ones that will run. Letters: W, b weight and
bias; γ, β scale and shift; μ, σ² running mean and variance.
"""

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from pipeline.graph.trace import layer_of, only_user, set_layer

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def batch_norm_folded(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph, in place, without the batch norms that follow a convolution or linear layer of their own."""
    graph.eval()
    for node in list(graph.graph.nodes):
        layer, after = layer_of(graph, node), only_user(node)
        if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) or after is None:
            continue
        norm = layer_of(graph, after)
        if not isinstance(norm, NORMS) or norm.running_mean is None:
            continue
        if _called_twice(graph, node) or _called_twice(graph, after):
            continue
        _fold(layer, norm)
        after.replace_all_uses_with(node)
        graph.graph.erase_node(after)
        set_layer(graph, str(after.target), nn.Identity())
    graph.graph.lint()
    graph.recompile()
    return graph


def _called_twice(graph: fx.GraphModule, node: fx.Node) -> bool:
    return [other.target for other in graph.graph.nodes if other.op == "call_module"].count(node.target) > 1


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.Module) -> None:
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    if isinstance(layer, nn.Linear):
        weight, bias = fuse_linear_bn_weights(layer.weight, layer.bias, *statistics)  # type: ignore[arg-type]
    else:
        transposed = isinstance(layer, nn.ConvTranspose2d)
        weight, bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics, transposed)  # type: ignore[arg-type]
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
