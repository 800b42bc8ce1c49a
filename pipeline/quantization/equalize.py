"""Equalise the ranges of two consecutive layers, channel by channel, without a change of what the network computes.

Nagel, van Baalen, Blankevoort & Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", arXiv:1906.04721, section 4.1.

    y = W₂ f(W₁ x + b₁) = (W₂ S) f(S⁻¹ W₁ x + S⁻¹ b₁)   for every f with f(s·a) = s·f(a), s > 0
    s_i = √(r₁ᵢ · r₂ᵢ) / r₂ᵢ,   after which both ranges of channel i are √(r₁ᵢ · r₂ᵢ)

ReLU, LeakyReLU and pooling are such functions, ReLU6 is not. A depthwise convolution is a second layer to the one
before it and a first layer to the one behind it; pairs that share a layer are repeated until nothing moves.

Weights with one scale per tensor gain most. With a scale per output channel the first layer's weights gain nothing;
what moves then is the tensor between the two layers, and the second layer's weights among themselves. A channel whose
weights are tiny and whose bias is not would blow up that tensor, so a channel's factor has a bound.

Letters: C channels between the two layers; r₁ᵢ largest |weight| that writes channel i, r₂ᵢ largest that reads it; S the
diagonal matrix of the factors s; f what stands between.
"""

from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pipeline.graph.trace import calls, layer_of, only_user

KINDS = (nn.Conv1d, nn.Conv2d, nn.Linear)
# f(s·a) = s·f(a), element by element …
ELEMENT_LAYERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.Dropout)
ELEMENT_CALLS = (F.relu, torch.relu, F.leaky_relu, "relu", "relu_")
# … or within each channel, if the pooling has as many dimensions as the convolution.
CHANNEL_LAYERS_1D = (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)
CHANNEL_LAYERS_2D = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ZeroPad2d)


@dataclass(frozen=True)
class EqualizedPair:
    """Two layers, and how unequal a channel's two ranges were at most: the larger over the smaller; 1 is equal."""

    first: str
    second: str
    unequal_before: float
    unequal_after: float


@torch.no_grad()
def equalized(
    graph: fx.GraphModule, *, rounds: int = 100, tolerance: float = 1e-4, largest_factor: float = 1000.0
) -> tuple[EqualizedPair, ...]:
    """Equalise every pair of layers of a traced, folded graph, in place, before quantizers are placed or calibrated.

    tolerance: it has settled once no factor of a round is further from 1 than this
    largest_factor: bound of a channel's factor and of its inverse; a channel that meets it stays unequal

    Pairs that cannot be scaled for certain stay as they are: another function or a second reader between them,
    transposed and grouped convolutions, layers that are called twice or share their weights.
    """
    pairs = pairs_in(graph)
    layers = {str(node.target): layer_of(graph, node) for pair in pairs for node in pair}
    # In float64 and written once: otherwise each round would add a rounding of its own.
    weights = {name: _parameter(layer, "weight").double().contiguous() for name, layer in layers.items()}
    biases = {name: _parameter(layer, "bias").double() for name, layer in layers.items() if _has(layer, "bias")}
    sides = []
    for first, second in pairs:
        written = _written(weights[str(first.target)])
        sides.append((str(first.target), written, _read(layers[str(second.target)], weights, second, len(written))))
    before = [_unequal(written, read) for _, written, read in sides]
    totals = [torch.ones(len(written), dtype=torch.float64, device=written.device) for _, written, _ in sides]
    for _ in range(rounds):
        furthest = 0.0
        for place, (name, written, read) in enumerate(sides):
            wanted = totals[place] * _factors(written, read)
            wanted = wanted.clamp(1 / largest_factor, largest_factor)
            factor = wanted / totals[place]  # (C,)
            written.div_(factor[:, None])
            read.mul_(factor[None, :, None])
            if name in biases:
                biases[name].div_(factor)
            totals[place] = wanted
            furthest = max(furthest, float((factor - 1).abs().max()))
        if furthest <= tolerance:
            break
    for name, weight in weights.items():
        _parameter(layers[name], "weight").copy_(weight)
    for name, bias in biases.items():
        _parameter(layers[name], "bias").copy_(bias)
    return tuple(
        EqualizedPair(str(first.target), str(second.target), unequal, _unequal(written, read))
        for (first, second), unequal, (_, written, read) in zip(pairs, before, sides, strict=True)
    )


def pairs_in(graph: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """The layers that can be equalised with the one behind them, in the order of the graph."""
    alone = _layers_of_their_own(graph)
    pairs = []
    for node in graph.graph.nodes:
        first, after = layer_of(graph, node), only_user(node)
        if node not in alone or first is None:
            continue
        flat = False
        while after is not None and (keeps := _keeps_scale(graph, after, first, flat=flat)):
            flat = flat or keeps == "flattens"
            after = only_user(after)
        if after in alone and after is not None and _reads_channels(first, layer_of(graph, after), flat=flat):
            pairs.append((node, after))
    return pairs


def _layers_of_their_own(graph: fx.GraphModule) -> set[fx.Node]:
    """Plain and depthwise layers that are called once and whose parameters nothing else reads."""
    called = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    owners = Counter(id(each) for module in graph.modules() for each in module._parameters.values() if each is not None)
    read = {id(_attribute(graph, str(node.target))) for node in graph.graph.nodes if node.op == "get_attr"}
    found = set()
    for node in graph.graph.nodes:
        layer = layer_of(graph, node)
        # A parametrised layer has another type, or a weight that is no parameter: it would be computed anew.
        if type(layer) not in KINDS or called[str(node.target)] > 1 or not _has(layer, "weight"):
            continue
        own = [each for each in layer._parameters.values() if each is not None]  # type: ignore[union-attr]
        if any(owners[id(each)] > 1 or id(each) in read for each in own):
            continue
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)) and layer.groups not in (1, layer.in_channels):
            continue
        found.add(node)
    return found


def _keeps_scale(graph: fx.GraphModule, node: fx.Node, first: nn.Module, *, flat: bool) -> str:
    """Whether what the node does to a channel commutes with a positive factor: "" or how."""
    if calls(graph, node, layers=ELEMENT_LAYERS, functions=ELEMENT_CALLS):
        return "each element"
    if flat or isinstance(first, nn.Linear):
        return ""
    pools: tuple[type, ...] = CHANNEL_LAYERS_2D if isinstance(first, nn.Conv2d) else CHANNEL_LAYERS_1D
    if calls(graph, node, layers=pools, functions=()):
        return "each channel"
    layer = layer_of(graph, node)
    if isinstance(layer, nn.Flatten):
        return "flattens" if (layer.start_dim, layer.end_dim) == (1, -1) else ""
    told = (*node.args[1:], *node.kwargs.items())
    flattens = calls(graph, node, layers=(), functions=(torch.flatten, "flatten"))
    return "flattens" if flattens and told in ((1,), (("start_dim", 1),), (1, -1)) else ""


def _reads_channels(first: nn.Module, second: nn.Module | None, *, flat: bool) -> bool:
    """Whether the channels that `first` writes are those that `second` reads."""
    channels = len(_parameter(first, "weight"))
    if isinstance(second, nn.Linear):
        expected = isinstance(first, nn.Linear) or flat
        return expected and second.in_features % channels == 0 and (flat or second.in_features == channels)
    return type(first) is type(second) and not flat and getattr(second, "in_channels", None) == channels


def _written(weight: Tensor) -> Tensor:
    return weight.view(len(weight), -1)  # (C, the weights that write a channel)


def _read(layer: nn.Module | None, weights: dict[str, Tensor], node: fx.Node, channels: int) -> Tensor:
    weight = weights[str(node.target)]
    depthwise = getattr(layer, "groups", 1) > 1
    return weight.view(1 if depthwise else len(weight), channels, -1)  # (outputs, C, the weights that read a channel)


def _factors(written: Tensor, read: Tensor) -> Tensor:
    """s per channel (C,); 1 where a range is 0 or not finite, because no factor would make the two equal."""
    first, second = written.abs().amax(1), read.abs().amax((0, 2))
    factor = (first * second).sqrt() / second
    return torch.where(factor.isfinite() & (factor > 0), factor, torch.ones_like(factor))


def _unequal(written: Tensor, read: Tensor) -> float:
    """The largest ratio of a living channel's two ranges."""
    return float(torch.maximum(factors := _factors(written, read) ** 2, 1 / factors).max())


def _has(layer: nn.Module | None, name: str) -> bool:
    return layer is not None and layer._parameters.get(name) is not None


def _parameter(layer: nn.Module | None, name: str) -> Tensor:
    parameter = layer._parameters[name] if layer is not None else None
    assert parameter is not None
    return parameter


def _attribute(graph: fx.GraphModule, name: str) -> object:
    owner, _, last = name.rpartition(".")
    return getattr(graph.get_submodule(owner), last)
