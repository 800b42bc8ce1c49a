"""ONNX pooling as torch layers.

torch pads both ends alike and by at most half the window; everything else is padded beforehand, so that the windows
are the same. In max pooling the edge is repeated instead of −∞: each window that reaches outside holds the edge
itself, so its maximum is the same, and no quantizer ever sees −∞. In average pooling zeros are added, and the result
is multiplied by (window elements / elements that count).
"""

import math
import operator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_layers import pad_argument, pads_of
from pipeline.graph.onnx_node import OnnxNode

MAXIMA: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
MEANS: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
GLOBAL_MEANS: tuple[Any, ...] = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def max_pool(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """MaxPool."""
    tensor = builder.tensor(node, 0)
    kernel, stride, dilation, before, after = _window(builder, node, tensor)
    ceil = bool(node.whole("ceil_mode", 0))
    fits = before == after and all(0 <= pad <= width // 2 for pad, width in zip(before, kernel, strict=True))
    if not fits:
        if set(dilation) != {1}:
            raise node.refused("has gaps in its window and pads unevenly. Give it the same padding at both ends.")
        outputs = _outputs(builder.shape(tensor)[2:], kernel, stride, before, after, ceil=ceil)
        after = _needed(builder.shape(tensor)[2:], kernel, stride, before, outputs)
        tensor = builder.call(node, F.pad, tensor, pad_argument(before, after), mode="replicate")
        before, ceil = [0] * len(kernel), False
    layer = MAXIMA[len(kernel) - 1](
        tuple(kernel), stride=tuple(stride), padding=tuple(before), dilation=tuple(dilation), ceil_mode=ceil
    )
    return builder.layer(node, layer, tensor)


def average_pool(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """AveragePool."""
    tensor = builder.tensor(node, 0)
    kernel, stride, dilation, before, after = _window(builder, node, tensor)
    if set(dilation) != {1}:
        raise node.refused("has gaps in its window, which is not supported. Write it as a convolution.")
    ceil, counted = bool(node.whole("ceil_mode", 0)), bool(node.whole("count_include_pad", 0))
    kind, sizes = MEANS[len(kernel) - 1], builder.shape(tensor)[2:]
    fits = before == after and all(0 <= pad <= width // 2 for pad, width in zip(before, kernel, strict=True))
    if fits:
        return builder.layer(node, kind(tuple(kernel), tuple(stride), tuple(before), ceil, counted), tensor)
    outputs = _outputs(sizes, kernel, stride, before, after, ceil=ceil)
    needed = _needed(sizes, kernel, stride, before, outputs)
    mean = kind(tuple(kernel), tuple(stride))
    beyond = [most - given for most, given in zip(needed, after, strict=True)]  # what rounding up adds never counts
    counts = torch.ones(1, 1, *sizes)
    counts = F.pad(counts, pad_argument(before, after), value=float(counted))
    counts = F.pad(counts, pad_argument([0] * len(kernel), beyond))
    ratio = 1.0 / mean(counts)
    tensor = builder.call(node, F.pad, tensor, pad_argument(before, needed))
    made = builder.layer(node, mean, tensor)
    if bool((ratio == 1.0).all()):
        return made
    return builder.call(node, operator.mul, made, builder.buffer(ratio.numpy(), name=f"{node.name}_ratio"))


def global_average(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """GlobalAveragePool."""
    tensor = builder.tensor(node, 0)
    return builder.layer(node, GLOBAL_MEANS[_spatial(builder, node, tensor) - 1](1), tensor)


def global_maximum(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """GlobalMaxPool: a window as large as the picture."""
    tensor = builder.tensor(node, 0)
    return builder.layer(node, MAXIMA[_spatial(builder, node, tensor) - 1](builder.shape(tensor)[2:]), tensor)


def mean_over_axes(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """ReduceMean: global average pooling when it is over all spatial axes."""
    tensor = builder.tensor(node, 0)
    rank, keep = len(builder.shape(tensor)), bool(node.whole("keepdims", 1))
    axes = reduced_axes(builder, node, rank)
    if axes == list(range(2, rank)) and rank in (3, 4) and builder.batch_axis(tensor) == 0:
        made = builder.layer(node, GLOBAL_MEANS[rank - 3](1), tensor)
        return made if keep else builder.call(node, torch.flatten, made, 1)
    return builder.call(node, torch.mean, tensor, axes, keepdim=keep) if axes else tensor


def sum_over_axes(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """ReduceSum."""
    tensor = builder.tensor(node, 0)
    axes = reduced_axes(builder, node, len(builder.shape(tensor)))
    return builder.call(node, torch.sum, tensor, axes, keepdim=bool(node.whole("keepdims", 1))) if axes else tensor


def reduced_axes(builder: NetworkBuilder, node: OnnxNode, rank: int) -> list[int]:
    """Which axes a reduction runs over, counted from the front; none given means all."""
    axes = builder.integers(node, "axes", 1) or []
    if not axes and not node.whole("noop_with_empty_axes", 0):
        return list(range(rank))
    return sorted(axis % rank for axis in axes)


def _spatial(builder: NetworkBuilder, node: OnnxNode, tensor: fx.Node) -> int:
    rank = len(builder.shape(tensor))
    if not 3 <= rank <= 5:
        raise node.refused(f"pools a tensor with {rank} axes; 3, 4 or 5 are supported.")
    return rank - 2


def _window(
    builder: NetworkBuilder, node: OnnxNode, tensor: fx.Node
) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Kernel, stride, dilation, padding before and after."""
    kernel, axes = node.several("kernel_shape", []), _spatial(builder, node, tensor)
    if len(kernel) != axes:
        raise node.refused(f"has a window of {len(kernel)} axes for an input of {axes}. Export the network again.")
    stride, dilation = node.several("strides", [1] * axes), node.several("dilations", [1] * axes)
    before, after = pads_of(node, builder.shape(tensor)[2:], kernel, stride, dilation)
    return kernel, stride, dilation, before, after


def _outputs(
    sizes: tuple[int, ...], kernel: list[int], stride: list[int], before: list[int], after: list[int], *, ceil: bool
) -> list[int]:
    """How many windows there are per axis; rounding up adds none that would begin behind the input."""
    counts = []
    for size, width, step, first, last in zip(sizes, kernel, stride, before, after, strict=True):
        steps = (size + first + last - width) / step
        count = (math.ceil(steps) if ceil else math.floor(steps)) + 1
        counts.append(count - 1 if ceil and (count - 1) * step >= size + first else count)
    return counts


def _needed(
    sizes: tuple[int, ...], kernel: list[int], stride: list[int], before: list[int], outputs: list[int]
) -> list[int]:
    """The padding behind each axis with which exactly `outputs` windows fit."""
    ends = (np.array(outputs) - 1) * np.array(stride) + np.array(kernel)
    return [int(end) for end in ends - np.array(sizes) - np.array(before)]
