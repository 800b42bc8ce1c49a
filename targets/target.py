"""A device we compress for: what it is, what it can run, how to tell that we are on it.

A file in `targets/devices/` holds one `TARGET`. Nothing is read from the machine until it is asked for: `scheme` and
`is_here` are functions.
"""

from collections.abc import Callable
from dataclasses import dataclass

from targets.budget import Budget
from targets.errors import DeviceMissing
from targets.runner import Engine


@dataclass(frozen=True)
class Scheme:
    """The integer arithmetic a target is fast at, and exact at."""

    weight_bits: int  # 8, or 7 where products of 8-bit numbers are added in 16 bits and would saturate
    unsigned_activations: bool  # tensors that are never negative use 0..255 with zero point 0
    signed_zero_point: int  # 128: signed activations are stored in 0..255; 0: in −128..127
    why: str

    def __post_init__(self) -> None:
        if self.weight_bits not in (7, 8):
            raise ValueError(f"weights of {self.weight_bits} bits are not supported; 7 or 8 are")
        if self.signed_zero_point not in (0, 128):
            raise ValueError(f"signed activations have their zero at 0 or 128, not at {self.signed_zero_point}")


@dataclass(frozen=True)
class Target:
    """One device. Every figure in it has a source."""

    name: str
    summary: str
    engine: Engine
    scheme: Callable[[], Scheme]
    budget: Budget
    is_here: Callable[[], bool]
    sources: tuple[str, ...]
    answers: bool = True  # whether its engine answers what the network would; the null device does not

    def must_be_here(self) -> None:
        """Pass on the device itself.

        Raises:
            DeviceMissing: this machine is another one.
        """
        if not self.is_here():
            raise DeviceMissing(
                f"This machine is not a {self.name} ({self.summary}). Run the command there: "
                "an engine is built, and its latency measured, on the device itself."
            )
