"""A device we compress for: what it is, what it can run, how to tell that we are on it.

A file in `targets/devices/` holds one `TARGET`. Nothing is read from the machine until it is asked for: `scheme` and
`is_here` are functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from targets.budget import Budget
from targets.engines.absent import UNBUILT, Absent
from targets.engines.elsewhere import ONNX_RUNTIME, TENSORRT, Elsewhere
from targets.errors import DeviceMissing, EngineMissing
from targets.profile import Profile
from targets.reach.reached import CUDA, Reached, is_emulated, providers_in, version_in
from targets.runner import Engine


@dataclass(frozen=True)
class Scheme:
    """The integer arithmetic a target is fast at, and exact at."""

    weight_bits: int  # 8, or 7, of which no two products saturate 16 bits
    unsigned_activations: bool  # tensors that are never negative use all 256 codes
    signed_zero_point: int  # 128: activations are stored as uint8, signed ones around 128; 0: all as int8
    why: str
    fused_additions: bool = False  # a convolution adds the other branch before it rounds: between them is no quantizer
    float_bits: int = 32  # 16: what is not integer (scales, biases, float layers) is half precision
    sums_in_16_bits: bool = False  # two neighbouring products are, and would saturate with any weights of 8 bits
    affine_activations: bool = False  # a tensor that may be negative has a zero point of its own, of the codes 0..255

    def __post_init__(self) -> None:
        if self.weight_bits not in (7, 8):
            raise ValueError(f"weights of {self.weight_bits} bits are not supported; 7 or 8 are")
        if self.signed_zero_point not in (0, 128):
            raise ValueError(f"signed activations have their zero at 0 or 128, not at {self.signed_zero_point}")
        if self.float_bits not in (16, 32):
            raise ValueError(f"floats of {self.float_bits} bits are not supported; 16 or 32 are")
        if (self.fused_additions or self.float_bits == 16) and not self.symmetric:
            raise ValueError("fused additions and half precision go with int8 around 0 only, which is TensorRT's form")
        if self.affine_activations and not self.unsigned_activations:
            raise ValueError("zero points of a tensor's own go with codes 0..255, so with unsigned activations only")

    @property
    def symmetric(self) -> bool:
        """Whether every activation is int8 with zero point 0, which is all that TensorRT takes."""
        return self.signed_zero_point == 0 and not self.unsigned_activations


@dataclass(frozen=True)
class Target:
    """One device. Every figure in it has a source.

    further_engines: other runtimes whose engine may be handed over instead, where it is installed and the faster one
    profile: what is known of the device from elsewhere; None where all is read from the machine
    fits: from the facts of a device that was reached, why it is not such a one; "" where it is
    scheme_of: the integer scheme of a device by its facts; None where it is always the same
    device: the one that was reached; None where this machine is meant
    """

    name: str
    summary: str
    engine: Engine
    scheme: Callable[[], Scheme]
    budget: Budget
    is_here: Callable[[], bool]
    sources: tuple[str, ...]
    answers: bool = True  # whether its engine answers what the network would; the null device does not
    further_engines: tuple[Engine, ...] = ()
    profile: Profile | None = None
    fits: Callable[[Mapping[str, Any]], str] | None = None
    scheme_of: Callable[[Mapping[str, Any]], Scheme] | None = None
    device: Reached | None = None

    def from_here(self) -> "Target":
        """The target as this machine reaches it: elsewhere, its engine is the file that the device builds one from."""
        if self.is_here():
            return self
        from targets.engines.unbuilt import (
            Unbuilt,  # here, because it loads onnx, which the command's help does without
        )

        return replace(self, engine=Unbuilt(self.name, self.engine.name), further_engines=())

    def through(self, device: Reached, *, settings: Mapping[str, Any] | None = None) -> "Target":
        """The target as this device: its engines are built, asked and timed there.

        settings: of every job beside the threads, such as that clocks are locked

        Raises:
            DeviceMissing: it is another kind of device, or answers for none.
        """
        if self.fits is None:
            raise DeviceMissing(f"{self.name} is no device that could be reached elsewhere: leave --device out.")
        facts = device.facts()
        why = self.fits(facts)
        if why:
            raise DeviceMissing(f"The device {device.address} is not a {self.name}: {why}.")
        name = TENSORRT if self.engine.name.lower() == TENSORRT else ONNX_RUNTIME
        scheme = self.scheme if self.scheme_of is None else partial(self.scheme_of, facts)
        told, summary = dict(settings or {}), self.summary
        if name == TENSORRT and version_in(facts, TENSORRT) is None and CUDA in providers_in(facts):
            name, told = ONNX_RUNTIME, {**told, "provider": "cuda"}
            summary += "; on this device ONNX Runtime with CUDA, for it has no TensorRT"
        return replace(
            self,
            summary=summary,
            engine=Elsewhere(device, name, told),
            scheme=scheme,
            is_here=_reached,
            further_engines=(),
            device=device,
        )

    def engine_of(self, runtime: str | None) -> Engine:
        """The engine of a runtime such as "openvino 2026.4.1"; the target's own where it has none of that name.

        What was handed over unbuilt has no engine but on the device.
        """
        name = (runtime or "").split(" ")[0]
        if name == UNBUILT and self.engine.name != name:
            return Absent(self.engine.name, self.name)
        return next((each for each in self.further_engines if each.name == name), self.engine)

    def further_engines_here(self) -> tuple[Engine, ...]:
        """Those of the further engines whose runtime is installed."""
        found = []
        for engine in self.further_engines:
            try:
                _ = engine.runtime
            except EngineMissing:
                continue
            found.append(engine)
        return tuple(found)

    def can_be_timed(self) -> bool:
        """Whether times taken now say something of the device: it is here or was reached, and it is real."""
        return self.is_here() and (self.device is None or not is_emulated(self.device.facts()))

    def must_be_here(self) -> None:
        """Pass on the device itself.

        Raises:
            DeviceMissing: this machine is another one.
        """
        if not self.is_here():
            raise DeviceMissing(
                f"This machine is not a {self.name} ({self.summary}). An engine is built, and its latency measured, on "
                "the device itself: run the command there, or build there from the bundle that is made here."
            )


def _reached() -> bool:
    """A device that was reached is there to be measured."""
    return True
