"""ONNX operators with weights as torch layers: convolutions, linear layers, normalisations.

Settings as in the ONNX operator reference (onnx.ai/onnx/operators). Layers are made without drawing random weights.
"""

import operator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import skip_init

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_node import OnnxNode

CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def parameter(values: np.ndarray) -> nn.Parameter:
    """A copy of the values as float32 weights."""
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32)))


def unfilled(kind: Any, *arguments: Any, **settings: Any) -> Any:
    """A layer whose weights are yet to be put in; no random number is drawn for them."""
    return skip_init(kind, *arguments, **settings)  # type: ignore[no-untyped-call]


def pads_of(
    node: OnnxNode, sizes: tuple[int, ...], kernel: list[int], stride: list[int], dilation: list[int]
) -> tuple[list[int], list[int]]:
    """What is added before and after each spatial axis; SAME is computed from the sizes."""
    rule, axes = node.word("auto_pad", "NOTSET"), len(kernel)
    if rule in ("NOTSET", ""):
        pads = node.several("pads", [0] * 2 * axes)
        return pads[:axes], pads[axes:]
    if rule == "VALID":
        return [0] * axes, [0] * axes
    totals = [
        max((-(-size // step) - 1) * step + (width - 1) * spread + 1 - size, 0)
        for size, width, step, spread in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    smaller, larger = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (smaller, larger) if rule == "SAME_UPPER" else (larger, smaller)


def pad_argument(before: list[int], after: list[int]) -> list[int]:
    """In torch's order: the last axis first."""
    return [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]


def convolution(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Conv."""
    tensor, weight = builder.tensor(node, 0), builder.constant(node, 1, "weights")
    axes, groups = _spatial_axes(builder, node, weight), node.whole("group", 1)
    kernel = list(weight.shape[2:])
    stride, dilation = node.several("strides", [1] * axes), node.several("dilations", [1] * axes)
    before, after = pads_of(node, builder.shape(tensor)[2:], kernel, stride, dilation)
    if before != after or min(before) < 0:
        tensor = builder.call(node, F.pad, tensor, pad_argument(before, after))
        before = [0] * axes
    layer = unfilled(
        CONVOLUTIONS[axes - 1], weight.shape[1] * groups, weight.shape[0], tuple(kernel), stride=tuple(stride),
        padding=tuple(before), dilation=tuple(dilation), groups=groups, bias=node.has(2),
    )  # fmt: skip
    return builder.layer(node, _weighted(builder, node, layer, weight), tensor)


def transposed_convolution(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """ConvTranspose; padding that differs between the two ends is cut off afterwards."""
    tensor, weight = builder.tensor(node, 0), builder.constant(node, 1, "weights")
    axes, groups = _spatial_axes(builder, node, weight), node.whole("group", 1)
    stride, dilation = node.several("strides", [1] * axes), node.several("dilations", [1] * axes)
    extra, pads = node.several("output_padding", [0] * axes), node.several("pads", [0] * 2 * axes)
    sizes, kernel, rule = builder.shape(tensor)[2:], weight.shape[2:], node.word("auto_pad", "NOTSET")
    full = [
        (size - 1) * step + (width - 1) * spread + 1 + more
        for size, step, width, spread, more in zip(sizes, stride, kernel, dilation, extra, strict=True)
    ]
    wanted = node.several("output_shape", [])
    if rule.startswith("SAME") and not wanted:
        wanted = [size * step for size, step in zip(sizes, stride, strict=True)]
    before, after = pads[:axes], pads[axes:]
    if wanted:
        totals = [max(whole - size, 0) for whole, size in zip(full, wanted[-axes:], strict=True)]
        smaller, larger = [total // 2 for total in totals], [total - total // 2 for total in totals]
        before, after = (smaller, larger) if rule == "SAME_UPPER" else (larger, smaller)
    elif rule == "VALID":
        before, after = [0] * axes, [0] * axes
    even = before == after
    layer = unfilled(
        TRANSPOSED[axes - 1], weight.shape[0], weight.shape[1] * groups, tuple(kernel), stride=tuple(stride),
        padding=tuple(before) if even else 0, output_padding=tuple(extra), dilation=tuple(dilation), groups=groups,
        bias=node.has(2),
    )  # fmt: skip
    made = builder.layer(node, _weighted(builder, node, layer, weight), tensor)
    if even:
        return made
    cuts = (slice(start, whole - end) for start, whole, end in zip(before, full, after, strict=True))
    return builder.call(node, operator.getitem, made, (slice(None), slice(None), *cuts))


def gemm(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Gemm: alpha · A · B + beta · C, a linear layer when B and C are constant."""
    tensor = builder.tensor(node, 0)
    weight = builder.constant(node, 1, "weights") * node.number("alpha", 1.0)  # (N, K) when transB, else (K, N)
    weight = weight if node.whole("transB", 0) else weight.T
    if node.whole("transA", 0):
        tensor = builder.call(node, torch.transpose, tensor, 0, 1)
    bias = None
    if node.has(2):
        added = builder.constant(node, 2, "bias") * node.number("beta", 1.0)
        if added.size not in (1, len(weight)):
            raise node.refused(f"adds a bias of shape {added.shape}; one value per output is supported.")
        bias = np.broadcast_to(added.reshape(-1), (len(weight),))
    return builder.layer(node, _linear(weight, bias), tensor)


def matrix_product(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """MatMul: a linear layer when the right side is constant, and takes the bias that is added right after it."""
    right = builder.constants.get(node.inputs[1])
    if right is None or right.ndim != 2 or node.inputs[0] in builder.constants:
        return builder.call(node, torch.matmul, builder.tensor(node, 0), builder.tensor(node, 1))
    bias, readers = None, builder.readers.get(node.outputs[0], [])
    if len(readers) == 1 and readers[0].operator == "Add":
        other = next((name for name in readers[0].inputs if name != node.outputs[0]), "")
        added = builder.constants.get(other)
        if added is not None and added.ndim and added.size == added.shape[-1] == right.shape[1] and added.ndim < 3:
            bias = added.reshape(-1)
    made = builder.layer(node, _linear(right.T, bias), builder.tensor(node, 0))
    if bias is not None:
        builder.tensors[readers[0].outputs[0]] = made
    return made


def embedding(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Gather of a constant table's rows by numbers that the network computes or is given."""
    table = builder.constant(node, 0, "table")  # (words, D)
    layer = unfilled(nn.Embedding, *table.shape)
    layer.weight = parameter(table)
    return builder.layer(node, layer, builder.tensor(node, 1))


def batch_normalisation(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """BatchNormalization in evaluation mode."""
    if node.whole("training_mode", 0):
        raise node.refused("is in training mode. Export the network in evaluation mode.")
    tensor = builder.tensor(node, 0)
    kind = NORMS[max(len(builder.shape(tensor)) - 3, 0)]
    scale, shift, mean, variance = (builder.constant(node, place, "statistics") for place in range(1, 5))
    layer = unfilled(kind, len(scale), eps=node.number("epsilon", 1e-5))
    layer.weight, layer.bias = parameter(scale), parameter(shift)
    layer.running_mean, layer.running_var = parameter(mean).data, parameter(variance).data
    layer.num_batches_tracked.zero_()
    return builder.layer(node, layer, tensor)


def layer_normalisation(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """LayerNormalization over the last axes."""
    tensor = builder.tensor(node, 0)
    shape = builder.shape(tensor)[node.whole("axis", -1) :]
    layer = unfilled(nn.LayerNorm, shape, eps=node.number("epsilon", 1e-5))
    shift = builder.constant(node, 2, "shift") if node.has(2) else np.zeros(shape)
    layer.weight = parameter(np.broadcast_to(builder.constant(node, 1, "scale"), shape))
    layer.bias = parameter(np.broadcast_to(shift, shape))
    return builder.layer(node, layer, tensor)


def parametric_relu(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """PRelu: a layer with one slope, or one per channel; other forms are computed from two ReLUs."""
    tensor, slope = builder.tensor(node, 0), builder.constant(node, 1, "slopes")
    shape = builder.shape(tensor)
    aligned = (1,) * (len(shape) - slope.ndim) + slope.shape
    per_channel = len(shape) > 1 and slope.size == shape[1] == aligned[1]
    if slope.size == 1 or per_channel:
        layer = unfilled(nn.PReLU, slope.size)
        layer.weight = parameter(slope.reshape(-1))
        return builder.layer(node, layer, tensor)
    negative = builder.call(node, operator.sub, tensor, builder.call(node, F.relu, tensor))
    scaled = builder.call(node, operator.mul, negative, builder.tensor(node, 1))
    return builder.call(node, operator.add, builder.call(node, F.relu, tensor), scaled)


def _linear(weight: np.ndarray, bias: np.ndarray | None) -> nn.Module:
    layer = unfilled(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = parameter(weight)
    if bias is not None:
        layer.bias = parameter(bias)
    return layer  # type: ignore[no-any-return]


def _weighted(builder: NetworkBuilder, node: OnnxNode, layer: Any, weight: np.ndarray) -> nn.Module:
    layer.weight = parameter(weight)
    if node.has(2):
        layer.bias = parameter(builder.constant(node, 2, "bias"))
    return layer  # type: ignore[no-any-return]


def _spatial_axes(builder: NetworkBuilder, node: OnnxNode, weight: np.ndarray) -> int:
    """How many spatial axes; torch would take a missing batch axis for an input without one."""
    rank = len(builder.shape(builder.tensors[node.inputs[0]])) if node.inputs[0] in builder.tensors else 0
    if rank != weight.ndim or not 3 <= rank <= 5:
        raise node.refused(f"has weights with {weight.ndim} axes for an input with {rank}; both must have 3, 4 or 5.")
    return rank - 2
