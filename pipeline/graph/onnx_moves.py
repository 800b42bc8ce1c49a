"""ONNX operators that move values without changing them, as torch functions that placement knows.

A reshape keeps the batch axis free whatever numbers the file fixes: the axis of the new shape before which stand as
many elements as before the batch axis of the input takes the batch.
"""

import math
import operator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_layers import embedding, pad_argument
from pipeline.graph.onnx_node import OnnxNode

MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def reshape(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Reshape to a constant shape, in which 0 is the input's own size and −1 what is left."""
    tensor = builder.tensor(node, 0)
    shape, wanted = builder.shape(tensor), [int(size) for size in builder.constant(node, 1, "shape").reshape(-1)]
    if not node.whole("allowzero", 0):
        wanted = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(wanted)]
    known = math.prod(size for size in wanted if size != -1)
    return reshaped(builder, node, [math.prod(shape) // max(known, 1) if size == -1 else size for size in wanted])


def flatten(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Flatten to two axes."""
    shape = builder.shape(builder.tensor(node, 0))
    axis = node.whole("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return reshaped(builder, node, [math.prod(shape[:axis]), math.prod(shape[axis:])])


def reshaped(builder: NetworkBuilder, node: OnnxNode, wanted: list[int]) -> fx.Node:
    """The first input in the shape `wanted`, written for the file's own batch size B."""
    tensor = builder.tensor(node, 0)
    shape, batch = builder.shape(tensor), builder.batch_axis(tensor)
    if math.prod(shape) != math.prod(wanted):
        raise node.refused(f"makes shape {tuple(wanted)} of {shape}, which has another number of elements.")
    if batch is None:
        raise node.refused("is given a constant where the network's own values should be. Export the network again.")
    front = math.prod(shape[:batch]) * builder.ahead.get(tensor, 1)
    takes = [axis for axis in range(len(wanted)) if math.prod(wanted[:axis]) == front]
    alone = next((axis for axis in takes if wanted[axis] == builder.batch_size()), None)
    to_the_front = bool(takes) and takes[0] > 0 and len(wanted) - takes[0] <= len(shape) - batch - 1
    if alone is not None:
        axis = alone
    elif takes and not to_the_front:
        axis = takes[0]
    else:  # what follows the batch is not split further, or no axis begins there: it joins the end of the one before
        axis = max(axis for axis in range(len(wanted)) if math.prod(wanted[:axis]) < max(front, 2))
    ahead, rest = divmod(front, math.prod(wanted[:axis]))
    if rest:
        raise node.refused("joins the batch axis with another one. Export the network with a free batch axis.")
    return builder.reshape(node, tensor, (*wanted[:axis], -1, *wanted[axis + 1 :]), ahead=ahead)


def transpose(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Transpose."""
    tensor = builder.tensor(node, 0)
    order = node.several("perm", list(reversed(range(len(builder.shape(tensor))))))
    return builder.call(node, torch.permute, tensor, tuple(order))


def squeeze(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Squeeze; without axes all of length 1 but the batch axis."""
    tensor = builder.tensor(node, 0)
    shape, batch = builder.shape(tensor), builder.batch_axis(tensor)
    axes = builder.integers(node, "axes", 1)
    if axes is None:
        axes = [axis for axis, size in enumerate(shape) if size == 1 and axis != batch]
    for axis in sorted((axis % len(shape) for axis in axes), reverse=True):
        tensor = builder.call(node, torch.squeeze, tensor, axis)
    return tensor


def unsqueeze(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Unsqueeze."""
    tensor, axes = builder.tensor(node, 0), builder.integers(node, "axes", 1) or []
    rank = len(builder.shape(tensor)) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        tensor = builder.call(node, torch.unsqueeze, tensor, axis)
    return tensor


def concat(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Concat; a constant is repeated for every input of the batch."""
    given = [place for place in range(len(node.inputs)) if node.inputs[place]]
    moving = next(builder.tensors[node.inputs[place]] for place in given if node.inputs[place] in builder.tensors)
    axis = node.whole("axis", 0) % len(builder.shape(moving))
    parts = []
    for place in given:
        part = builder.tensor(node, place)
        if builder.batch_axis(part) is None:
            cut = tuple(slice(0, 1) if each == axis else slice(None) for each in range(axis + 1))
            zeros = builder.call(node, torch.zeros_like, builder.call(node, operator.getitem, moving, cut))
            part = builder.call(node, operator.add, zeros, part)
        parts.append(part)
    return builder.call(node, torch.cat, parts, axis) if len(parts) > 1 else parts[0]


def split(builder: NetworkBuilder, node: OnnxNode) -> list[fx.Node]:
    """Split into given sizes, or into equal parts of which the last may be smaller."""
    tensor, count = builder.tensor(node, 0), len(node.outputs)
    shape = builder.shape(tensor)
    axis = node.whole("axis", 0) % len(shape)
    sizes = builder.integers(node, "split", 1)
    if sizes is None:
        part = -(-shape[axis] // count)
        sizes = [part] * (count - 1) + [shape[axis] - part * (count - 1)]
    parts = builder.call(node, torch.split, tensor, sizes, axis)
    return [builder.call(node, operator.getitem, parts, place) for place in range(count)]


def cut(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Slice; on the batch axis only the whole of it."""
    tensor = builder.tensor(node, 0)
    shape, batch = builder.shape(tensor), builder.batch_axis(tensor)
    starts, ends = builder.integers(node, "starts", 1) or [], builder.integers(node, "ends", 2) or []
    axes = builder.integers(node, "axes", 3) or list(range(len(starts)))
    steps = builder.integers(node, "steps", 4) or [1] * len(starts)
    cuts: list[Any] = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        if step < 1:
            raise node.refused("runs backwards, which is not supported. Export the network without flipping.")
        first, last, _ = slice(start, end, step).indices(size)
        if (first, last, step) != (0, size, 1):
            if axis % len(shape) == batch:
                raise node.refused("takes apart the batch. Export the network with a free batch axis.")
            cuts[axis] = slice(first, last, step) if step > 1 else slice(first, last)
    return tensor if all(each == slice(None) for each in cuts) else builder.call(
        node, operator.getitem, tensor, tuple(cuts)
    )  # fmt: skip


def gather(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Gather with constant places (one, a row of equally spaced ones, or any list), or computed ones in a constant."""
    table = builder.constants.get(node.inputs[0])
    if table is not None and table.dtype.kind == "f" and table.ndim == 2 and node.whole("axis", 0) in (0, -2):
        return embedding(builder, node)
    tensor = builder.tensor(node, 0)
    shape = builder.shape(tensor)
    axis = node.whole("axis", 0) % len(shape)
    front: tuple[Any, ...] = (slice(None),) * axis
    if node.inputs[1] in builder.tensors and table is None:
        raise node.refused(
            "takes computed places out of computed values, and the inputs of a batch would share them. Take a fixed "
            "place, such as the first word, or a mean."
        )
    if node.inputs[1] in builder.tensors:
        return builder.call(node, operator.getitem, tensor, (*front, builder.tensor(node, 1)))
    places = builder.constant(node, 1, "places")
    if places.ndim == 0:
        return builder.call(node, operator.getitem, tensor, (*front, int(places)))
    if places.ndim > 1:
        raise node.refused(f"takes places of shape {places.shape}; a list of places is supported.")
    places = np.where(places < 0, places + shape[axis], places).astype(np.int64)
    steps = set(np.diff(places).tolist())
    if len(steps) <= 1 and all(step > 0 for step in steps) and places.size:
        row = slice(int(places[0]), int(places[-1]) + 1, steps.pop() if steps else 1)
        return builder.call(node, operator.getitem, tensor, (*front, row))
    return builder.call(node, torch.index_select, tensor, axis, builder.buffer(places, name=f"{node.name}_places"))


def pad(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Pad by constant widths."""
    tensor, pads = builder.tensor(node, 0), builder.integers(node, "pads", 1) or []
    rank, mode = len(builder.shape(tensor)), MODES.get(node.word("mode", "constant"))
    axes = [axis % rank for axis in (builder.integers(node, "axes", 3) or range(rank))]
    if mode is None or len(pads) != 2 * len(axes):
        raise node.refused("pads in a way that is not supported. Use the mode constant, reflect, edge or wrap.")
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        before[axis], after[axis] = pads[place], pads[len(axes) + place]
    if not any(before) and not any(after):
        return tensor
    first = next(axis for axis in range(rank) if before[axis] or after[axis])
    if mode != "constant":
        first = min(first, 2) if first >= 2 else first  # torch wants both axes of a picture
        return builder.call(node, F.pad, tensor, pad_argument(before[first:], after[first:]), mode=mode)
    value = node.number("value", 0.0)
    if node.has(2):
        value = float(builder.constant(node, 2, "value").reshape(-1)[0])
    widths = pad_argument(before[first:], after[first:])
    return builder.call(node, F.pad, tensor, widths, value=value) if value else builder.call(
        node, F.pad, tensor, widths
    )  # fmt: skip


def expand(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Expand to a constant shape; the batch axis keeps its length."""
    tensor, wanted = builder.tensor(node, 0), [int(size) for size in builder.constant(node, 1, "shape").reshape(-1)]
    shape, batch = builder.shape(tensor), builder.batch_axis(tensor)
    wanted = [1] * (len(shape) - len(wanted)) + wanted
    sizes = [-1] * len(wanted)
    offset = len(wanted) - len(shape)
    for axis, size in enumerate(wanted):
        own = shape[axis - offset] if axis >= offset else 1
        if axis < offset or (axis - offset != batch and size not in (1, own)):
            sizes[axis] = size
    return builder.call(node, torch.broadcast_to, tensor, tuple(sizes))
