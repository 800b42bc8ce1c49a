"""Where quantizers go: one per tensor, at its producer, on the traced graph with batch norm folded.

ONNX Runtime runs a convolution in integers only when its input, its weight and its output carry quantizers, an
addition only when both inputs and the output do, and pooling likewise. A ReLU belongs to the operator before it, and
the quantizer stands after the ReLU. Operators that only move values (max pooling, padding with zeros, reshaping) keep
the quantizer of their input, called a second time. What follows the last layer stays float, and so does the last layer:
its answers are not quantized, so it would gain nothing. Only where its answers are averaged (a convolution instead of a
linear layer at the end) is it quantized like the others.
"""

import operator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn

from pipeline.errors import NetworkRefused
from pipeline.graph.trace import calls, layer_of, only_user, tensor_inputs

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
RELU_LAYERS, RELU_CALLS = (nn.ReLU, nn.ReLU6), (F.relu, torch.relu, F.relu6, "relu", "relu_")
ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
POOL_LAYERS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
POOL_CALLS = (F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, "mean")
# What vanishes in the exported graph; a quantizer behind a dropout would clip what it scales up while training.
VANISH_LAYERS, VANISH_CALLS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d), (F.dropout, F.dropout2d, "contiguous")
SPLIT_CALLS = (torch.chunk, torch.split, "chunk", "split")  # they give tuples, which no quantizer takes
MOVE_LAYERS = (nn.MaxPool1d, nn.MaxPool2d, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, *VANISH_LAYERS)
MOVE_CALLS = (
    F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d, F.pad, operator.getitem,
    torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze,
    "flatten", "reshape", "view", "transpose", "permute", "squeeze", "unsqueeze", *VANISH_CALLS, *SPLIT_CALLS,
)  # fmt: skip
CONCATS = (torch.cat, torch.concat)
NEVER_NEGATIVE_LAYERS, NEVER_NEGATIVE_CALLS = (nn.Sigmoid,), (torch.sigmoid, F.sigmoid, "sigmoid")


@dataclass(frozen=True)
class Placement:
    """Which tensors and weights get a quantizer.

    activations: producer node → never negative · repeats: node that moves values → producer whose quantizer it repeats
    weights: names of layers · kept_float: layer → why
    """

    activations: dict[str, bool]
    repeats: dict[str, str]
    weights: tuple[str, ...]
    kept_float: dict[str, str]


def placement_on(graph: fx.GraphModule) -> Placement:
    """Decide for a traced, folded network.

    Raises:
        NetworkRefused: there is no convolution or linear layer to quantize.
    """
    nodes = list(graph.graph.nodes)
    weighted = [node for node in nodes if isinstance(layer_of(graph, node), WEIGHTED)]
    before = {node: _leads_to(node, set(weighted) - {node}) for node in nodes}  # a layer that comes before another
    last = [node for node in weighted if not before[node] and not _is_averaged(graph, node)]
    integer = [node for node in weighted if node not in last]
    if not integer:
        raise NetworkRefused("the network has no convolution or linear layer before its last one: nothing to quantize.")
    wanted: dict[fx.Node, None] = {}
    for node in nodes:
        if node in integer or (before[node] and _joins(graph, node)):
            _want(graph, [*tensor_inputs(node), node], wanted)
    producers: dict[str, bool] = {}
    repeats: dict[str, str] = {}
    for node in nodes:
        if node not in wanted:
            continue
        if _moves(graph, node):
            if not calls(graph, node, layers=VANISH_LAYERS, functions=(*VANISH_CALLS, *SPLIT_CALLS)):
                repeats[node.name] = _producer(graph, node).name
        else:
            producers[node.name] = never_negative(graph, node)
    return Placement(
        activations=producers,
        repeats={name: producer for name, producer in repeats.items() if producer in producers},
        weights=tuple(dict.fromkeys(str(node.target) for node in integer)),
        kept_float={str(node.target): "the last layer: its answers are not quantized" for node in last},
    )


def never_negative(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the values of `node` are ≥ 0 by the structure of the network, whatever the input."""
    if calls(
        graph, node, layers=(*RELU_LAYERS, *NEVER_NEGATIVE_LAYERS), functions=(*RELU_CALLS, *NEVER_NEGATIVE_CALLS)
    ):
        return True
    if _moves(graph, node) or _joins(graph, node):
        return all(never_negative(graph, item) for item in tensor_inputs(node))
    return False


def _want(graph: fx.GraphModule, nodes: list[fx.Node], wanted: dict[fx.Node, None]) -> None:
    for node in nodes:
        after = only_user(node)
        if (
            after is not None
            and calls(graph, after, layers=RELU_LAYERS, functions=RELU_CALLS)
            and not _moves(graph, node)
        ):
            node = after
        wanted[node] = None
        while _moves(graph, node):  # the tensor's producer, and every step from it to here
            node = tensor_inputs(node)[0]
            wanted[node] = None


def _producer(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    while _moves(graph, node):
        node = tensor_inputs(node)[0]
    return node


def _moves(graph: fx.GraphModule, node: fx.Node) -> bool:
    return calls(graph, node, layers=MOVE_LAYERS, functions=MOVE_CALLS) and bool(tensor_inputs(node))


def _joins(graph: fx.GraphModule, node: fx.Node) -> bool:
    return _is_add(graph, node) or _is_pool(graph, node) or calls(graph, node, layers=(), functions=CONCATS)


def _is_averaged(graph: fx.GraphModule, node: fx.Node) -> bool:
    after = only_user(node)
    while after is not None and (_moves(graph, after) or calls(graph, after, layers=RELU_LAYERS, functions=RELU_CALLS)):
        after = only_user(after)
    return after is not None and _is_pool(graph, after)


def _is_add(graph: fx.GraphModule, node: fx.Node) -> bool:
    return calls(graph, node, layers=(), functions=ADDS) and len(tensor_inputs(node)) == 2


def _is_pool(graph: fx.GraphModule, node: fx.Node) -> bool:
    return calls(graph, node, layers=POOL_LAYERS, functions=POOL_CALLS)


def _leads_to(node: fx.Node, goals: set[fx.Node]) -> bool:
    seen, waiting = {node}, list(node.users)
    while waiting:
        user = waiting.pop()
        if user in goals:
            return True
        if user not in seen:
            seen.add(user)
            waiting.extend(user.users)
    return False
