"""ONNX Resize and Upsample as F.interpolate, where torch computes the same places.

ONNX names how an output place x is led back to the input (`coordinate_transformation_mode`), torch has three ways. For
the nearest neighbour both are computed, and if they differ for these sizes the values are taken by their places.

Letters: x output place, s scale, n and m input and output size of an axis.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from pipeline.graph.network_builder import NetworkBuilder
from pipeline.graph.onnx_node import OnnxNode


def resize(builder: NetworkBuilder, node: OnnxNode) -> fx.Node:
    """Resize from operator set 10 on, and Upsample."""
    tensor = builder.tensor(node, 0)
    shape = builder.shape(tensor)
    scales, sizes = _scales_and_sizes(builder, node, shape)
    if not 3 <= len(shape) <= 5 or builder.batch_axis(tensor) != 0 or sizes[:2] != list(shape[:2]):
        raise node.refused(f"makes {tuple(sizes)} of {shape}; only the axes of a picture are resized.")
    mode, old = node.word("mode", "nearest"), node.opset < 11
    where = node.word("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    if mode == "nearest":
        rounding = "floor" if old else node.word("nearest_mode", "round_prefer_floor")
        return _nearest(builder, node, tensor, scales[2:], sizes[2:], where, rounding)
    if node.whole("antialias", 0) or node.whole("exclude_outside", 0) or mode not in ("linear", "cubic"):
        raise node.refused("resizes in a way that torch has not. Export it with mode nearest or linear.")
    corners = where == "align_corners"
    halves = where == "half_pixel" or (where == "pytorch_half_pixel" and min(sizes[2:]) > 1)
    name = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear", ("cubic", 4): "bicubic"}
    known = name.get((mode, len(shape)))
    if known is None or not (corners or halves):
        raise node.refused(
            f"resizes with {mode} interpolation and {where!r}, which torch has not. Export it with half_pixel or "
            "align_corners."
        )
    if known == "bicubic" and node.number("cubic_coeff_a", -0.75) != -0.75:
        raise node.refused("has another cubic curve than torch. Export it with cubic_coeff_a = -0.75.")
    exact = all(math.isclose(s * n, m) for s, n, m in zip(scales[2:], shape[2:], sizes[2:], strict=True))
    how: dict[str, Any] = {"size": tuple(sizes[2:])} if exact or corners else {"scale_factor": tuple(scales[2:])}
    return builder.call(node, F.interpolate, tensor, **how, mode=known, align_corners=corners)


def _scales_and_sizes(builder: NetworkBuilder, node: OnnxNode, shape: tuple[int, ...]) -> tuple[list[float], list[int]]:
    """Per axis, for the file's own batch size."""
    axes = [axis % len(shape) for axis in node.several("axes", list(range(len(shape))))]
    scales, sizes = [1.0] * len(shape), list(shape)
    at = 1 if node.opset < 11 else 2
    if node.operator == "Resize" and node.has(3):
        if node.word("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise node.refused("keeps the aspect ratio, which is not supported. Export it with fixed sizes.")
        for axis, size in zip(axes, builder.constant(node, 3, "sizes").reshape(-1), strict=True):
            if axis:  # a file with another batch size in it resizes no batch axis
                sizes[axis], scales[axis] = int(size), int(size) / shape[axis]
        return scales, sizes
    if "scales" in node.attributes:
        given = [float(each) for each in node.attributes["scales"]]
    else:
        given = [float(each) for each in builder.constant(node, at, "scales").reshape(-1)]
    for axis, scale in zip(axes, given, strict=True):
        sizes[axis], scales[axis] = math.floor(scale * shape[axis]), scale
    return scales, sizes


def _nearest(
    builder: NetworkBuilder, node: OnnxNode, tensor: fx.Node, scales: list[float], sizes: list[int], where: str,
    rounding: str,
) -> fx.Node:  # fmt: skip
    shape = builder.shape(tensor)[2:]
    wanted = [_places(node, s, n, m, where, rounding) for s, n, m in zip(scales, shape, sizes, strict=True)]
    torchs = [np.arange(m) * n // m for n, m in zip(shape, sizes, strict=True)]
    if all(np.array_equal(one, other) for one, other in zip(wanted, torchs, strict=True)):
        return builder.call(node, F.interpolate, tensor, size=tuple(sizes), mode="nearest")
    for axis, places in enumerate(wanted):
        buffer = builder.buffer(places, name=f"{node.name}_places")
        tensor = builder.call(node, torch.index_select, tensor, axis + 2, buffer)
    return tensor


def _places(node: OnnxNode, s: float, n: int, m: int, where: str, rounding: str) -> np.ndarray:
    """Which input place each output place takes its value from, (m,)."""
    half = np.float32(0.5)
    x, scale = np.arange(m, dtype=np.float32), np.float32(s)  # in float32 as ONNX Runtime does: 8 / 1.6 is 5, not 4.99…
    if where == "asymmetric":
        found = x / scale
    elif where == "align_corners":
        found = x * (n - 1) / (m - 1) if m > 1 else x * 0
    elif where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        found = (x + half) / scale - half if where != "pytorch_half_pixel" or m > 1 else x * 0
        if where == "half_pixel_symmetric":
            found += n / 2 * (1 - m / (s * n))
    else:
        raise node.refused(f"resizes with {where!r}, which is not supported. Export it with half_pixel or asymmetric.")
    rounded = {
        "round_prefer_floor": np.ceil(found - half), "round_prefer_ceil": np.floor(found + half),
        "floor": np.floor(found), "ceil": np.ceil(found),
    }  # fmt: skip
    if rounding not in rounded:
        raise node.refused(f"rounds by {rounding!r}, which no operator set knows. Export the network again.")
    places: np.ndarray = np.clip(rounded[rounding], 0, n - 1).astype(np.int64)
    return places
