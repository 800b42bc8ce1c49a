"""Is a device that was reached of the kind that a target means? Told from its facts (targets/on_device/facts.py).

Each gives why it is not; "" where it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]
Fits = Callable[[Facts], str]


def x86_with(fits: Callable[[tuple[str, ...]], bool] | None = None, *, what: str = "") -> Fits:
    """A 64-bit x86 whose processor features are such; what: which, in words."""

    def why_not(facts: Facts) -> str:
        if architecture(facts) not in ("x86_64", "amd64"):
            return f"its processor is {architecture(facts) or 'unknown'}, not x86"
        if fits is not None and not fits(features(facts)):
            return f"its processor is {what}: it has {', '.join(features(facts)) or 'none of the features that matter'}"
        return ""

    return why_not


def arm64_with_dot_product(facts: Facts) -> str:
    """A 64-bit ARM that adds four products of int8 in one instruction."""
    if architecture(facts) not in ("aarch64", "arm64"):
        return f"its processor is {architecture(facts) or 'unknown'}, not a 64-bit ARM"
    if "asimddp" not in features(facts):
        return "its processor lacks the integer dot product (asimddp)"
    return ""


def board(*beginnings: str) -> Fits:
    """A board that calls itself so, in /proc/device-tree/model."""

    def why_not(facts: Facts) -> str:
        name = str(facts.get("board") or "")
        if any(each.lower() in name.lower() for each in beginnings):
            return ""
        return f"it calls itself {name!r}" if name else "it names no board in /proc/device-tree/model"

    return why_not


def nvidia_gpu(name: str) -> Fits:
    """A machine with this GPU, as nvidia-smi names it."""

    def why_not(facts: Facts) -> str:
        found = str(facts.get("gpu") or "")
        if f" {name.lower()} " in f" {found.lower().replace('-', ' ')} ":  # A10 is no A100, and no A10G
            return ""
        return f"its GPU is {found}" if found else "it has no NVIDIA GPU that nvidia-smi names"

    return why_not


def architecture(facts: Facts) -> str:
    """Of the processor, in lower case."""
    return str(facts.get("architecture") or "").lower()


def features(facts: Facts) -> tuple[str, ...]:
    """Of the processor."""
    return tuple(str(each) for each in facts.get("cpu_features") or ())
