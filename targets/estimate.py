"""An estimate of latency from a profile, before anything ran on the device: the roofline, layer by layer.

Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model for multicore architectures".

    time = Σ over layers of  max( operations / (peak · u), bytes / bandwidth ) + start

Letters: u, the share of the dense peak that is reached at batch 1; start, what it takes to have a layer begin.

u is a range, so that the answer is one. ResNet-50 in INT8 reached 0.06 to 0.32 of the peak in MLPerf's single-stream
runs (inference v0.7 to v3.1, NVIDIA), most boards between 0.1 and 0.3. It is an estimate and never a measurement: its
types are its own, and nothing that judges a limit takes them.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from targets.profile import Profile, Variant

LEAST_UTILISATION, GREATEST_UTILISATION = 0.1, 0.3
# Launched one by one, 4 to 6 µs; in a CUDA graph much less, for which no figure was found, so that the low end has 0.
# susun-blog.com, "From Launch Overhead to CUDA Graph", on an RTX 5070 Ti (second-hand).
GREATEST_START_MS = 0.006
TF32_FROM = 8.0  # compute capability; half of FP16's peak (NVIDIA, A100 and A10 data sheets: 312 and 156, 125 and 62.5)

PER_MS = {"TOPS": 1e9, "TFLOPS": 1e9, "GB/s": 1e6}


class Arithmetic(Enum):
    """What a layer multiplies; the name is that of the peak in a profile."""

    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True)
class LayerCost:
    """What a layer does for one input: a multiply-add is two operations; bytes are read and written, weights too."""

    name: str
    operations: int
    bytes_moved: int
    arithmetic: Arithmetic


@dataclass(frozen=True)
class Span:
    """Two ends of an estimate. It is no interval of confidence: how often the truth lies within is not known."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a network may take on a board nobody measured on.

    board: the variant of the profile, "" where there is none · engine_ms, teacher_ms: None where `missing` says why
    """

    board: str
    engine_ms: Span | None
    teacher_ms: Span | None
    missing: str
    assumptions: tuple[str, ...]

    @property
    def speedup(self) -> Span | None:
        """Teacher over engine, with the ends that lie furthest apart: the two may reach different shares of a peak."""
        if self.engine_ms is None or self.teacher_ms is None or self.engine_ms.low <= 0:
            return None
        return Span(self.teacher_ms.low / self.engine_ms.high, self.teacher_ms.high / self.engine_ms.low)

    def as_json(self) -> dict[str, Any]:
        """For --json and the manifest, labelled there too."""
        speedup = self.speedup
        return {
            "label": "estimate, not a measurement", **asdict(self), "assumptions": list(self.assumptions),
            "speedup": None if speedup is None else asdict(speedup),
        }  # fmt: skip


def estimate(
    profile: Profile | None, *, engine: Sequence[LayerCost] | None, teacher: Sequence[LayerCost] | None
) -> Estimate:
    """For the first board of a profile.

    engine, teacher: their layers; None where a shape is not known before they run
    """
    if profile is None or not profile.variants:
        return without("", "no figures of such a board are known")
    board = profile.variants[0]
    capability = compute_capability(profile)
    if capability is None:
        return without(board.name, "what share of its peak a processor reaches at batch 1 was not found")
    if not engine or not teacher:
        return without(board.name, "the network has a shape that is not known before it runs")
    tf32 = capability >= TF32_FROM
    lacking = [name for name in needed([*engine, *teacher], tf32=tf32) if getattr(board, name) is None]
    if lacking:
        return without(
            board.name, f"no source was found for its {' and its '.join(words_of(name) for name in lacking)}"
        )
    return Estimate(
        board.name, span_ms(engine, board, tf32=tf32), span_ms(teacher, board, tf32=tf32), "",
        assumptions(board, tf32=tf32),
    )  # fmt: skip


def without(board: str, why: str) -> Estimate:
    """No estimate, and the reason."""
    return Estimate(board, None, None, why, ())


def span_ms(layers: Sequence[LayerCost], board: Variant, *, tf32: bool) -> Span:
    """The time of one input, with the greatest share of the peak and with the least."""
    low = sum(layer_ms(layer, board, share=GREATEST_UTILISATION, tf32=tf32) for layer in layers)
    high = sum(layer_ms(layer, board, share=LEAST_UTILISATION, tf32=tf32) for layer in layers)
    return Span(low, high + len(layers) * GREATEST_START_MS)


def layer_ms(layer: LayerCost, board: Variant, *, share: float, tf32: bool) -> float:
    """One layer: its arithmetic or its memory, whichever takes longer.

    share: of the peak that is reached · tf32: FP32 is multiplied in the matrix units
    """
    arithmetic = layer.operations / (share * peak_per_ms(board, layer.arithmetic, tf32=tf32))
    return max(arithmetic, layer.bytes_moved / per_ms(board, "bandwidth"))


def peak_per_ms(board: Variant, arithmetic: Arithmetic, *, tf32: bool) -> float:
    """Operations in a millisecond, if the units never waited."""
    if arithmetic is Arithmetic.FP32 and tf32:
        return per_ms(board, "fp16") / 2
    return per_ms(board, arithmetic.value)


def per_ms(board: Variant, name: str) -> float:
    """A figure of a board in units per millisecond."""
    figure = getattr(board, name)
    if figure is None:
        raise ValueError(f"no source was found for {name} of {board.name}")
    return float(figure.value) * PER_MS[figure.unit]


def needed(layers: Sequence[LayerCost], *, tf32: bool) -> list[str]:
    """The figures that an estimate of these layers rests on."""
    used = {layer.arithmetic for layer in layers}
    names = {"fp16" if each is Arithmetic.FP32 and tf32 else each.value for each in used}
    return [name for name in ("int8", "fp16", "fp32", "bandwidth") if name in names or name == "bandwidth"]


def words_of(name: str) -> str:
    """A figure as it is called."""
    return "memory bandwidth" if name == "bandwidth" else f"peak in {name.upper()}"


def compute_capability(profile: Profile) -> float | None:
    """Of a GPU; None of a processor."""
    found = re.search(r"compute capability (\d+\.\d+)", profile.processor.text)
    return float(found[1]) if found else None


def assumptions(board: Variant, *, tf32: bool) -> tuple[str, ...]:
    """What an estimate for this board takes for granted, each a clause."""
    preset = next((mode.name for mode in board.power_modes if mode.preset), None)
    floats = "in TF32, which TensorRT may use for them" if tf32 else "in the ordinary units"
    return (
        f"{LEAST_UTILISATION:g} to {GREATEST_UTILISATION:g} of the dense peak is reached at batch 1, as ResNet-50 in "
        "INT8 mostly was in MLPerf; on large GPUs it was less",
        "weights and activations go through memory once per layer, at the full bandwidth; a cache would save some",
        "activation functions, additions and quantizers are fused into the layer before them",
        f"layers that are not quantized are computed {floats}, at the same share of that peak",
        f"each layer takes 0 to {1000 * GREATEST_START_MS:g} µs to start",
        "greatest clocks" + (f", where the board starts in {preset}" if preset else ""),
        "computation alone, without copies to and from the GPU",
    )
