"""Where quantizers go: one per tensor, at its producer, on the traced graph with batch norm folded.

ONNX Runtime runs a convolution in integers only when its input, its weight and its output carry quantizers, an addition
only when both inputs and the output do, and pooling likewise. A ReLU belongs to the operator before it, and the
quantizer stands after the ReLU. Operators that only move values (max pooling, padding with zeros, reshaping) keep the
quantizer of their input, called a second time. What a concat joins shares one quantizer with it: with one each, and
another behind it, values are rounded twice and SqueezeNet is 9 % slower. What follows the last layer stays float, and
so does the last layer: its answers are not quantized, so it would gain nothing. Only where its answers are averaged (a
convolution instead of a linear layer at the end) is it quantized like the others.

The rest was decided by measurement: ONNX Runtime 1.31, AVX2 without VNNI, one thread and one input, runs in turns, mean
of the fastest half; speed-up over float.

    encoder of 4×192 with 4 heads, 32 tokens, quantized are
        inputs of linear layers, biases lowered to int32 (lower_linear.py)   1.51
        and their outputs                                                    1.28
        and inputs of attention's products                                   1.41     so these stay float
        and residual sums, which layer norms read in float                   1.41     and these
        inputs of linear layers, biases in float                             0.31
    MobileNetV1 of width 0.5 with LeakyReLU, 96×96
        a quantizer before LeakyReLU and one behind it (QLinearLeakyRelu)   0.97     (1.11 with ReLU)
        behind it alone: every convolution is float                         0.34
    the same with SiLU, GELU, hard swish: before and behind              0.73, 0.68, 0.77; behind alone 0.34, 0.40, 0.32

    linear layers and LeakyReLU, tanh, ELU; a quantizer behind the function alone, over one before it as well (0025)
        vectors of 256 and 1024                                      1.14–1.22
        24 and 48 tokens of 192 and 128                              1.01–1.11

So a linear layer has a quantizer behind it only where an integer operator reads it, or where a ReLU follows, which the
runtime would fuse into the float product. Behind a convolution any other activation function has a quantizer on either
side, and an addition is quantized only if an integer operator reads it. Layer norms, softmax, embeddings
and activation functions are computed in float.
"""

import operator
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches

import torch
import torch.nn.functional as F
from torch import fx, nn

from pipeline.errors import NetworkRefused
from pipeline.graph.trace import calls, layer_of, only_user, tensor_inputs
from pipeline.quantization.kept_float import reasons_by_layer
from pipeline.quantization.recurrent_weights import is_quantizable

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
RELU_LAYERS, RELU_CALLS = (nn.ReLU, nn.ReLU6), (F.relu, torch.relu, F.relu6, "relu", "relu_")
LEAKY_LAYERS, LEAKY_CALLS = (nn.LeakyReLU,), (F.leaky_relu, F.leaky_relu_)  # an integer operator of its own
ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
POOL_LAYERS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
POOL_CALLS = (F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, "mean")
# What vanishes in the exported graph; a quantizer behind a dropout would clip what it scales up while training.
VANISH_LAYERS, VANISH_CALLS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d), (F.dropout, F.dropout2d, "contiguous")
SPLIT_CALLS = (torch.chunk, torch.split, torch.unbind, "chunk", "split", "unbind")  # tuples take no quantizer
# So do these, whose parts are new values.
TUPLE_LAYERS = (nn.RNNBase, nn.LSTMCell, nn.MultiheadAttention)
TUPLE_CALLS = (torch.max, torch.min, torch.topk, torch.sort, "max", "min", "topk", "sort")
MAX_POOL_LAYERS = (nn.MaxPool1d, nn.MaxPool2d)
MAX_POOL_CALLS = (F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d)
MOVE_LAYERS = (*MAX_POOL_LAYERS, nn.Flatten, nn.Unflatten, nn.ZeroPad2d, *VANISH_LAYERS)
MOVE_CALLS = (
    *MAX_POOL_CALLS, F.pad, operator.getitem,
    torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze, torch.unsqueeze,
    "flatten", "reshape", "view", "transpose", "permute", "squeeze", "unsqueeze", *VANISH_CALLS, *SPLIT_CALLS,
)  # fmt: skip
CONCATS = (torch.cat, torch.concat)
NEVER_NEGATIVE_LAYERS = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)
NEVER_NEGATIVE_CALLS = (
    torch.sigmoid, F.sigmoid, F.hardsigmoid, torch.softmax, F.softmax, "sigmoid", "softmax",
)  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """Which tensors and weights get a quantizer.

    activations: producer node → never negative
    repeats: node that moves values, or is joined with others → producer whose quantizer it repeats
    weights: names of layers · kept_float: layer → why
    affine: producers whose quantizer has a zero point, which calibration decides (insert.py)
    recurrent: names of recurrent layers, whose weights are quantized and whose tensors need no quantizer
    """

    activations: dict[str, bool]
    repeats: dict[str, str]
    weights: tuple[str, ...]
    kept_float: dict[str, str]
    affine: tuple[str, ...] = ()
    recurrent: tuple[str, ...] = ()


def placement_on(graph: fx.GraphModule, *, keep_float: Collection[str] = ()) -> Placement:
    """Decide for a traced, folded network.

    keep_float: layers that get no weight quantizer; their tensors get one where an integer neighbour needs it

    Raises:
        NetworkRefused: there is no layer to quantize, or none of a name in `keep_float`.
    """
    nodes = list(graph.graph.nodes)
    weighted = [node for node in nodes if isinstance(layer_of(graph, node), WEIGHTED)]
    reasons = reasons_by_layer(graph, quantizable=WEIGHTED)
    _refuse_unknown(keep_float, [*(str(node.target) for node in weighted), *reasons])
    before = {node: _leads_to(node, set(weighted) - {node}) for node in nodes}  # a layer that comes before another
    reasons |= {
        str(node.target): "the last layer: its answers are not quantized"
        for node in weighted
        if not before[node] and not _is_averaged(graph, node)
    }
    reasons |= dict.fromkeys(keep_float, "asked for")
    recurrent = [str(node.target) for node in nodes if is_quantizable(layer_of(graph, node))]
    recurrent = [name for name in dict.fromkeys(recurrent) if name not in keep_float]
    integer = [node for node in weighted if str(node.target) not in reasons]
    if not integer and not recurrent:
        raise NetworkRefused(
            "every convolution and linear layer was asked to stay float: nothing to quantize."
            if keep_float
            else "the network has no convolution or linear layer before its last one: nothing to quantize."
        )
    joins = _integer_joins(graph, [node for node in nodes if before[node] and _joins(graph, node)], integer)
    wanted: dict[fx.Node, None] = {}
    for node in nodes:
        if node in integer or node in joins:
            output = [node] if _answers_codes(graph, node) else []
            _want(graph, [*tensor_inputs(node), *output], wanted)
    first = _agreed(graph, [node for node in nodes if node in joins and _is_concat(graph, node)])
    producers: dict[str, bool] = {}
    repeats: dict[str, str] = {}
    for node in nodes:
        if node not in wanted:
            continue
        if _moves(graph, node):
            if not calls(graph, node, layers=VANISH_LAYERS, functions=(*VANISH_CALLS, *SPLIT_CALLS)):
                producer = _producer(graph, node)
                repeats[node.name] = first.get(producer, producer).name
        elif first.get(node, node) is not node:
            repeats[node.name] = first[node].name
        else:
            producers[node.name] = never_negative(graph, node)
    return Placement(
        activations=producers,
        repeats={name: producer for name, producer in repeats.items() if producer in producers},
        weights=tuple(dict.fromkeys(str(node.target) for node in integer)),
        kept_float={name: why for name, why in reasons.items() if name not in recurrent},
        recurrent=tuple(recurrent),
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


def _refuse_unknown(names: Collection[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, known, n=3, cutoff=0.0)
            raise NetworkRefused(
                f"no convolution or linear layer is called '{name}', which was to stay float. The nearest names are: "
                f"{', '.join(nearest) or 'none, there is no such layer'}."
            )


def _integer_joins(graph: fx.GraphModule, joins: list[fx.Node], integer: list[fx.Node]) -> set[fx.Node]:
    """The joins that are worth it: between float layers, quantizers around one would only cost time.

    An addition must be read by an integer layer or by another join, at least at the end of a chain of additions; each
    join must touch an integer layer, or a join that does.
    """
    sources = {node: {_maker(graph, item) for item in tensor_inputs(node)} for node in (*joins, *integer)}
    left = set(joins)
    while unread := {
        add for add in left if _is_add(graph, add) and not any(add in sources[node] for node in (*left, *integer))
    }:
        left -= unread
    found = set(integer)
    while touching := {
        join for join in left - found if sources[join] & found or any(join in sources[node] for node in found)
    }:
        found |= touching
    return found - set(integer)


def _agreed(graph: fx.GraphModule, concats: list[fx.Node]) -> dict[fx.Node, fx.Node]:
    """Producer → the first in the graph of those that share its quantizer: what a concat joins, and the concat.

    Where only some of it is never negative each keeps its own: ONNX Runtime computes a ReLU with the product before it
    only if the codes begin at 0.
    """
    first: dict[fx.Node, fx.Node] = {}
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for concat in concats:  # in the order of the graph, so what is joined has been seen
        group = {concat, *(_producer(graph, item) for item in tensor_inputs(concat))}
        if len({never_negative(graph, each) for each in group}) > 1:
            continue
        group |= {node for node, leader in first.items() if leader in {first.get(each) for each in group}}
        leader = min(group, key=lambda node: order[node])
        first |= dict.fromkeys(group, leader)
    return first


def _maker(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The operator whose values `node` has: what only moves, scales or clips them is passed over."""
    layers, functions = (*RELU_LAYERS, *LEAKY_LAYERS, nn.BatchNorm1d, nn.BatchNorm2d), (*RELU_CALLS, *LEAKY_CALLS)
    while tensor_inputs(node) and (_moves(graph, node) or calls(graph, node, layers=layers, functions=functions)):
        node = tensor_inputs(node)[0]
    return node


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
    inputs = tensor_inputs(node)
    if not inputs or not calls(graph, node, layers=MOVE_LAYERS, functions=MOVE_CALLS):
        return False
    return node.target is not operator.getitem or not _is_tuple_of_new(graph, inputs[0])


def _is_tuple_of_new(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the node gives a tuple whose parts it has computed; the states of an LSTM are one within another."""
    if node.target is operator.getitem and isinstance(layer_of(graph, node.all_input_nodes[0]), nn.LSTM):
        return bool(node.args[1] == 1)
    return calls(graph, node, layers=TUPLE_LAYERS, functions=TUPLE_CALLS)


def _joins(graph: fx.GraphModule, node: fx.Node) -> bool:
    return _is_add(graph, node) or _is_pool(graph, node) or _is_concat(graph, node)


def _answers_codes(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether its output needs a quantizer for the operator to be an integer one, whoever reads it.

    ONNX Runtime puts a ReLU into a float Gemm before it looks for integer ones.
    """
    if not isinstance(layer_of(graph, node), nn.Linear):
        return True
    after = only_user(node)
    return after is not None and calls(graph, after, layers=RELU_LAYERS, functions=RELU_CALLS)


def _is_averaged(graph: fx.GraphModule, node: fx.Node) -> bool:
    after = only_user(node)
    while after is not None and (_moves(graph, after) or calls(graph, after, layers=RELU_LAYERS, functions=RELU_CALLS)):
        after = only_user(after)
    return after is not None and _is_pool(graph, after)


def _is_add(graph: fx.GraphModule, node: fx.Node) -> bool:
    added = tensor_inputs(node)  # a stored tensor, such as a position's, is no branch: it would be stored in codes
    plain = len(added) == 2 and not any(each.op == "get_attr" for each in added)
    return plain and calls(graph, node, layers=(), functions=ADDS)


def _is_concat(graph: fx.GraphModule, node: fx.Node) -> bool:
    return calls(graph, node, layers=(), functions=CONCATS)


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
