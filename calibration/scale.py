"""From a range to the scale of an integer: value ≈ scale · (code − zero), the zero point at 0 or chosen.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv:1712.05877, sections 2.1 and 3.1 (the nudged zero point).

    signed, 8 bits: codes −127..127, scale = amax / 127        signed, 7 bits: −63..63, amax / 63
    unsigned, 8 bits: codes 0..255, scale = high / 255         (values are never negative)
    affine, 8 bits:   codes 0..255, scale = (high − low) / 255, zero = round(−low / scale), low ≤ 0 ≤ high

Rounding the zero point moves both ends by up to half a step; in return 0 is a code. The signed code −128 stays unused,
so that the codes are symmetric and a negated weight has the negated code.

Letters: C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from calibration.errors import LayerNotFinite
from calibration.ranges import Range

# A tensor that is always 0 has no scale of its own, and a scale of 0 would be divided by. 2⁻²⁴ is the smallest positive
# number of float16: every float type that an engine may store scales in can hold it and its inverse is finite.
SMALLEST_SCALE = 2.0**-24


@dataclass(frozen=True)
class AffineCodes:
    """value = scale · (code − zero) for the codes 0..255."""

    scale: float
    zero: int


def affine_codes(span: Range) -> AffineCodes:
    """The 256 codes that hold a range and zero; the scale is never below `SMALLEST_SCALE`."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    scale = max((high - low) / 255, SMALLEST_SCALE)
    return AffineCodes(scale, min(max(round(-low / scale), 0), 255))


def symmetric_amax(span: Range) -> float:
    """The larger of the two ends, without sign."""
    return max(abs(span.low), abs(span.high))


def largest_code(*, bits: int, signed: bool) -> int:
    """The largest integer in use: 127 for 8 bits signed, 63 for 7, 255 for 8 bits unsigned."""
    if not 2 <= bits <= 16:
        raise ValueError(f"integers of 2 to 16 bits are known here, not of {bits}")
    return (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1


def scale_of(span: Range, *, bits: int = 8, signed: bool = True) -> float:
    """The step between two codes; never 0 and never below `SMALLEST_SCALE`."""
    if not signed and span.low < 0.0:
        raise ValueError(f"a range that begins at {span.low} has no unsigned scale with zero point 0")
    return max(symmetric_amax(span) / largest_code(bits=bits, signed=signed), SMALLEST_SCALE)


def channel_amax(weight: Tensor, *, axis: int = 0) -> Tensor:
    """The largest magnitude in each channel of a weight; float32 (C,).

    axis: the channels' dimension: 0 for a convolution or a linear layer, 1 for a transposed convolution

    Raises:
        LayerNotFinite: a channel contains NaN or infinity.
    """
    channels = (
        weight.detach().float().movedim(axis, 0).flatten(1) if weight.ndim > 1 else weight.detach().float()[:, None]
    )
    amax = channels.abs().amax(dim=1)  # (C,)
    if not bool(amax.isfinite().all()):
        channel = int((~amax.isfinite()).nonzero()[0])
        raise LayerNotFinite(
            f"channel {channel} of {len(amax)} of a weight {tuple(weight.shape)} contains NaN or infinity, so it has "
            f"no scale. Load a checkpoint from before the training diverged."
        )
    return amax


def channel_scales(weight: Tensor, *, axis: int = 0, bits: int = 8) -> Tensor:
    """The signed step between two codes in each channel of a weight; never below `SMALLEST_SCALE`; float32 (C,)."""
    return torch.clamp(channel_amax(weight, axis=axis) / largest_code(bits=bits, signed=True), min=SMALLEST_SCALE)
