"""A mean over height and width, written as the pooling it is: integer runtimes know the pooling and not the mean.

    x.mean((2, 3))  =  flatten(adaptive_avg_pool2d(x, 1), 1),   with keepdim without the flatten

`GlobalAveragePool` between quantizers runs in integers, `ReduceMean` does not.
"""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from pipeline.graph.trace import calls, layer_of, tensor_inputs

MEANS = (torch.mean, "mean")
ADDED = (operator.add, operator.iadd, torch.add, operator.mul, torch.mul)
PICTURES = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)  # they answer (N, C, H, W)


def means_pooled(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph, in place, with every mean over the pixels of a picture as a pooling to one pixel."""
    for node in list(graph.graph.nodes):
        if not calls(graph, node, layers=(), functions=MEANS):
            continue
        axes, keeps = _asked(node)
        if axes not in ({2, 3}, {-1, -2}) or not _is_picture(graph, tensor_inputs(node)[0]):
            continue
        with graph.graph.inserting_after(node):
            pooled = graph.graph.call_function(F.adaptive_avg_pool2d, (tensor_inputs(node)[0], 1))
        last = pooled
        if not keeps:
            with graph.graph.inserting_after(pooled):
                last = graph.graph.call_function(torch.flatten, (pooled, 1))
        node.replace_all_uses_with(last)
        graph.graph.erase_node(node)
    graph.recompile()
    return graph


def _asked(node: fx.Node) -> tuple[set[Any], bool]:
    """The axes of a mean and whether they stay as ones; no axes when it cannot be told."""
    told: dict[str, Any] = {**dict(zip(("input", "dim", "keepdim"), node.args, strict=False)), **node.kwargs}
    axes = told.get("dim", told.get("axis"))
    if told.get("dtype") is not None or not isinstance(axes, (tuple, list)):
        return set(), False
    return set(axes), bool(told.get("keepdim", False))


def _is_picture(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node's answer has height and width: a layer of pictures made it, or elements of one were changed."""
    seen: set[fx.Node] = set()
    while node not in seen:
        seen.add(node)
        if isinstance(layer_of(graph, node), PICTURES):
            return True
        keeps_shape = calls(
            graph, node,
            layers=(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Dropout),
            functions=(F.relu, torch.relu, F.relu6, "relu", "relu_", F.hardswish, F.silu, F.gelu, *ADDED),
        )  # fmt: skip
        if not keeps_shape or not tensor_inputs(node):
            return False
        node = tensor_inputs(node)[0]
    return False
