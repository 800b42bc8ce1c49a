"""What is known of a device before anything ran on it: figures, each beside its source.

A figure that no source was found for is None, and `Profile.not_found` names it; nothing is guessed. Peaks are what the
arithmetic units could do if they never waited: no network reaches them, and no verdict rests on them.
"""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Figure:
    """A number, its unit, and where it is written or how it was computed."""

    value: float
    unit: str
    source: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.value <= 0:
            raise ValueError(f"a figure of a device is a number above zero, not {self.value}")
        if not self.unit or not self.source:
            raise ValueError(f"the figure {self.value:g} lacks its unit or its source")


@dataclass(frozen=True)
class Fact:
    """A statement, and where it is written or how it was found."""

    text: str
    source: str

    def __post_init__(self) -> None:
        if not self.text or not self.source:
            raise ValueError(f"the fact '{self.text}' lacks its words or its source")


@dataclass(frozen=True)
class PowerMode:
    """A power mode by its name: its number differs between modules and releases."""

    name: str
    source: str
    allows: str = ""  # cores, clocks, and what is switched off; empty where only the name is known
    preset: bool = False  # the one a device starts in


@dataclass(frozen=True)
class Variant:
    """One board of the family. Peaks are dense: 2:4 sparsity would double those in INT8 and FP16, where there is any.

    fp16: in the matrix units; fp32: in the ordinary ones
    """

    name: str
    int8: Figure | None = None
    fp16: Figure | None = None
    fp32: Figure | None = None
    memory: Figure | None = None
    bandwidth: Figure | None = None
    power_modes: tuple[PowerMode, ...] = ()


@dataclass(frozen=True)
class Software:
    """A release of a device's system, the runtime in it, and the greatest ONNX operator set that this reads."""

    release: str
    runtime: str
    opset: int | None
    source: str


@dataclass(frozen=True)
class Profile:
    """A family of boards that one target stands for; the first variant is the one meant where none is named.

    processor: compute capability of a GPU, or features of a CPU
    """

    processor: Fact
    variants: tuple[Variant, ...] = ()
    software: tuple[Software, ...] = ()
    remarks: tuple[Fact, ...] = ()

    def not_found(self) -> tuple[str, ...]:
        """The figures that no source was found for, each with its board; and the operator sets."""
        figures = [each.name for each in fields(Variant) if each.name not in ("name", "power_modes")]
        lacking = [
            f"{name} of {variant.name}"
            for variant in self.variants
            for name in figures
            if getattr(variant, name) is None
        ]
        return (*lacking, *(f"operator set of {each.release}" for each in self.software if each.opset is None))
