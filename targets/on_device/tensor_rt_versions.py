"""What the versions of TensorRT want: how a network is typed, and which flags are no more.

    8.5, 8.6    weakly typed alone, through trtexec alone
    10.x        weakly typed (--int8 --fp16: the types are the builder's choice) or strongly typed (the graph's)
    11.x        strongly typed alone: every flag that names a precision is gone; transfers are off, and CUDA graph and
                spinning on, without being asked

Sources: NVIDIA, TensorRT 11 migration page; the names of the Python bindings 10.3, 10.13, 10.16 and 11.4; sampleOptions
of trtexec 8.6, 10.3, 10.13 and 11.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from targets.on_device.failures import OnDeviceFailure

if TYPE_CHECKING:
    Version = tuple[int, ...]

OLDEST = (8, 5)
OLDEST_IN_PYTHON = (10,)
STRONG_FROM = (10,)
STRONG_ALONE_FROM = (11,)
BANNER = re.compile(r"\[TensorRT v(\d+)\]")

# In 10.3, gone in 11.1 (source: sampleOptions of both); the first three are refused, the others ignored with a warning.
REMOVED_IN_11 = (
    "--best", "--bf16", "--fp16", "--fp8", "--int4", "--int8", "--calib", "--layerPrecisions", "--layerOutputTypes",
    "--precisionConstraints", "--useCudaGraph", "--useSpinWait", "--noDataTransfers", "--separateProfileRun",
)  # fmt: skip


def version_from_banner(text: str) -> Version | None:
    """`[TensorRT v100300]` → (10, 3, 0); `[TensorRT v8503]` → (8, 5, 3); None where it does not stand."""
    found = BANNER.search(text)
    if not found:
        return None
    number = int(found.group(1))
    if number < 10000:  # until 8.6: one digit for the major, one for the minor version
        return (number // 1000, number // 100 % 10, number % 100)
    return (number // 10000, number // 100 % 100, number % 100)


def version_from_name(name: str) -> Version:
    """ "10.13.3.9" → (10, 13, 3): the fourth is the number of a build."""
    parts = re.findall(r"\d+", name)[:3]
    if not parts:
        raise OnDeviceFailure("failed", f"TensorRT calls its version {name!r}, which holds no number.")
    return tuple(int(part) for part in parts)


def runtime_name(version: Version) -> str:
    """(10, 3, 0) → "tensorrt 10.3.0"."""
    return "tensorrt " + ".".join(str(part) for part in version)


def strongly_typed(version: Version, settings: dict[str, Any]) -> bool:
    """Whether the types of the graph hold; a version that cannot do what is asked is refused in words."""
    mode, typed = settings.get("mode", "int8"), settings.get("typed", "weak")
    if mode not in ("int8", "float") or typed not in ("weak", "strong"):
        raise OnDeviceFailure(
            "usage", f"the job asks for mode {mode!r}, typed {typed!r}; known are int8 and float, weak and strong."
        )
    if version < OLDEST:
        raise OnDeviceFailure("missing", f"the device has {runtime_name(version)}; 8.5 or later is needed.")
    if version >= STRONG_ALONE_FROM:
        return True
    if typed == "strong" and version < STRONG_FROM:
        raise OnDeviceFailure(
            "usage", f"the job asks for a strongly typed engine; {runtime_name(version)} knows weakly typed ones alone."
        )
    return bool(typed == "strong")


def precision_flags(version: Version, settings: dict[str, Any]) -> list[str]:
    """How trtexec is told which types it may use."""
    if strongly_typed(version, settings):
        return [] if version >= STRONG_ALONE_FROM else ["--stronglyTyped"]
    return ["--int8", "--fp16"] if settings.get("mode", "int8") == "int8" else ["--fp16"]


def timing_flags(version: Version, *, transfers: bool, graph: bool) -> list[str]:
    """How trtexec is told what is timed: with or without transfers, one CUDA graph or one launch per kernel."""
    if version >= STRONG_ALONE_FROM:
        return (["--includeDataTransfers"] if transfers else []) + ([] if graph else ["--noCudaGraph"])
    flags = ["--useSpinWait"]
    if graph:
        flags.append("--useCudaGraph")
    if not transfers:
        flags.append("--noDataTransfers")
    return flags


def transfer_flags(version: Version) -> list[str]:
    """For a run whose answers are wanted."""
    return ["--includeDataTransfers"] if version >= STRONG_ALONE_FROM else []


def profile_flags(version: Version) -> list[str]:
    """For a run whose layers are timed; 11 does so separately without being asked."""
    return ["--dumpProfile"] if version >= STRONG_ALONE_FROM else ["--dumpProfile", "--separateProfileRun"]
