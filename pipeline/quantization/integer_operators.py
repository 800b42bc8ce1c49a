"""Integer operators in numpy, as ONNX Runtime's integer kernels compute them.

    product:   q_y = saturate( round( float32(Σ (q_x − z_x)(q_w − z_w) + q_b) · float32(s_x·s_w / s_y) ) + z_y )
    in one:    q_y = saturate( round( (s_x·s_w · Σ (q_x − z_x)(q_w − z_w) + b + s_r·(q_r − z_r)) / s_y ) + z_y )
    addition:  q_c = saturate( round( (s_a·(q_a − z_a) + s_b·(q_b − z_b)) / s_c ) + z_c )

Letters: q code, s scale, z zero point, b bias, r the other branch of a residual sum; rounding is half to even. Sums are
formed in float64, where every integer below 2⁵³ is exact. Source: MLAS and the quantization operators of ONNX Runtime
(core/mlas/lib/{requantize,qladd}.cpp, contrib_ops/cpu/quantization/qlinear_pool.cc), and the ONNX standard, QLinearConv
and QuantizeLinear.
"""

from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.quantization.quantized_graph import Pair

F32 = np.float32
EXACT_IN_FLOAT32 = 2**24  # below it, float32 holds every whole number


def quantized_values(values: np.ndarray, pair: Pair) -> np.ndarray:
    """QuantizeLinear: divide in float32, round half to even, shift, saturate."""
    scale, zero = (pair.spread(each, values.ndim) for each in (pair.scale, pair.zero))
    with np.errstate(over="ignore"):  # beyond the largest float: saturated below
        return saturated(np.rint(values.astype(F32) / scale.astype(F32)), zero, pair.zero.dtype)


def dequantized_codes(codes: np.ndarray, pair: Pair) -> np.ndarray:
    """DequantizeLinear, computed in float32."""
    scale, zero = (pair.spread(each, codes.ndim) for each in (pair.scale, pair.zero))
    result: np.ndarray = (codes.astype(np.int64) - zero.astype(np.int64)).astype(F32) * scale.astype(F32)
    return result.astype(pair.scale.dtype)  # half precision where the scale is


def saturated(steps: np.ndarray, zero: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Whole steps from zero → codes."""
    limits = np.iinfo(dtype)
    return np.clip(steps.astype(np.float64) + zero.astype(np.float64), limits.min, limits.max).astype(dtype)


def centred(codes: np.ndarray, pair: Pair) -> np.ndarray:
    """Codes minus their zero point, as whole float64."""
    result: np.ndarray = codes.astype(np.float64) - pair.spread(pair.zero, codes.ndim).astype(np.float64)
    return result


def bias_codes(bias: np.ndarray, *, inputs: Pair, weight: Pair) -> np.ndarray:
    """A float bias as ONNX Runtime quantizes it: scale s_x·s_w, half to even; here without the limit of int32."""
    scale = (inputs.scale.astype(F32) * weight.scale.astype(F32)).astype(F32)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        result: np.ndarray = np.rint(bias.astype(F32) / scale).astype(np.float64)
    return result


def requantized(sums: np.ndarray, *, inputs: Pair, weight: Pair, outputs: Pair, axis: int) -> np.ndarray:
    """Sums of products → codes of the output; `axis` is that of the output channels."""
    factor = (inputs.scale.astype(F32) * weight.scale.astype(F32) / outputs.scale.astype(F32)).astype(F32)
    spread = Pair(factor, factor, axis).spread(factor, sums.ndim)
    return saturated(np.rint(sums.astype(F32) * spread), outputs.zero, outputs.zero.dtype)


def requantized_in_one(
    sums: np.ndarray, *, inputs: Pair, weight: Pair, outputs: Pair, axis: int, bias: np.ndarray | None,
    others: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """Sums of products → codes of the output, rounded once, as TensorRT is documented to.

    bias: added after the products are scaled, (K,) · others: dequantized values of the branch that is added
    """
    scale = _wide(inputs.scale) * _wide(weight.scale)
    real = sums * Pair(scale, scale, axis).spread(scale, sums.ndim)
    if bias is not None:
        real = real + Pair(bias, bias, axis).spread(_wide(bias), sums.ndim)
    if others is not None:
        real = real + others
    return saturated(np.rint(real / _wide(outputs.scale)), outputs.zero, outputs.zero.dtype)


def convolved(
    x: np.ndarray, w: np.ndarray, *, pads: list[int], strides: list[int], dilations: list[int], group: int,
    whole: bool = True,
) -> np.ndarray:  # fmt: skip
    """x (N, C, …) and w (K, C/group, …) → sums (N, K, …); whole: they are whole numbers, centred codes.

    torch only multiplies and adds here. Where the largest input times a channel's weights stays below 2²⁴, every
    partial sum is a whole number that float32 holds, in whatever order it is formed; else float64 does it.
    """
    rank = x.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]) if any(pads) else x
    largest = np.abs(x).max(initial=0) * np.abs(w).reshape(len(w), -1).sum(1).max(initial=0)
    kind = np.float32 if whole and largest < EXACT_IN_FLOAT32 else np.float64
    multiply: Any = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[rank]
    with torch.inference_mode(), torch.backends.nnpack.flags(enabled=False):  # its transforms have fractions
        sums = multiply(
            torch.from_numpy(padded.astype(kind)), torch.from_numpy(w.astype(kind)), stride=strides, dilation=dilations,
            groups=group,
        )  # fmt: skip
    result: np.ndarray = sums.numpy().astype(np.float64)
    return result


def added(one: np.ndarray, other: np.ndarray, pairs: tuple[Pair, Pair, Pair], *, as_avx2: bool) -> np.ndarray:
    """The sum of two quantized tensors; pairs: of the first, the second and the result.

    as_avx2: with the roundings of MLAS's AVX2 kernel, two multiply-adds in float32 that start from a constant into
    which the zero points are folded; else the sum is formed in float64
    """
    a, b, c = pairs
    if not as_avx2:
        real = _wide(a.scale) * centred(one, a) + _wide(b.scale) * centred(other, b)
        return saturated(np.rint(real / _wide(c.scale)), c.zero, c.zero.dtype)
    ratio_a, ratio_b = F32(a.scale / c.scale), F32(b.scale / c.scale)
    shift = F32(_wide(ratio_a) * int(a.zero) + _wide(F32(ratio_b * F32(b.zero))))  # contracted to one multiply-add
    start = F32(F32(c.zero) - shift)
    second = (_wide(other) * _wide(ratio_b) + _wide(start)).astype(F32)
    codes = np.rint((_wide(one) * _wide(ratio_a) + _wide(second)).astype(F32))
    return saturated(codes, np.zeros((), np.int64), c.zero.dtype)


def averaged_over_all(codes: np.ndarray, *, inputs: Pair, outputs: Pair) -> np.ndarray:
    """GlobalAveragePool: the integer sum times one float32 factor."""
    places = tuple(range(2, codes.ndim))
    count = int(np.prod(codes.shape[2:]))
    factor = F32(inputs.scale.astype(F32) / F32(outputs.scale.astype(F32) * F32(count)))
    sums = centred(codes, inputs).sum(places, keepdims=True)
    return saturated(np.rint(sums.astype(F32) * factor), outputs.zero, outputs.zero.dtype)


def averaged(
    codes: np.ndarray, *, inputs: Pair, outputs: Pair, kernel: list[int], pads: list[int], strides: list[int],
    whole: bool, as_avx2: bool,
) -> np.ndarray:  # fmt: skip
    """AveragePool; whole: places outside the tensor count (count_include_pad).

    as_avx2: summed in float32 in the order of the window, as ONNX Runtime's plain loop does; else exactly
    """
    rank, ones = codes.ndim - 2, [1] * (codes.ndim - 2)
    values = centred(codes, inputs)
    counts = _windows(np.ones_like(values), kernel, pads=pads, strides=strides, dilations=ones)
    places = tuple(range(2 + rank, 2 + 2 * rank))
    count = np.full(counts.shape[: 2 + rank], float(np.prod(kernel))) if whole else counts.sum(places)
    windows = _windows(values, kernel, pads=pads, strides=strides, dilations=ones)
    if not as_avx2:
        real = windows.sum(places) * _wide(inputs.scale) / count
        return saturated(np.rint(real / _wide(outputs.scale)), outputs.zero, outputs.zero.dtype)
    each = (windows.astype(F32) * inputs.scale.astype(F32)).reshape(*count.shape, -1)
    total = np.zeros(count.shape, F32)
    for place in range(each.shape[-1]):
        total += each[..., place]
    shifted = (total / count.astype(F32)) / outputs.scale.astype(F32) + F32(outputs.zero)
    return saturated(np.rint(shifted), np.zeros((), np.int64), outputs.zero.dtype)


def _windows(
    x: np.ndarray, kernel: tuple[int, ...] | list[int], *, pads: list[int], strides: list[int], dilations: list[int]
) -> np.ndarray:
    """(N, C, …) → (N, C, outputs …, kernel …), zeros around."""
    rank = x.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    spans = tuple((size - 1) * apart + 1 for size, apart in zip(kernel, dilations, strict=True))
    windows = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    every = [slice(None, None, step) for step in (*strides, *dilations)]
    index = (slice(None), slice(None), *every)
    return windows[index]


def _wide(values: np.ndarray | np.generic) -> np.ndarray:
    return np.asarray(values).astype(np.float64)
