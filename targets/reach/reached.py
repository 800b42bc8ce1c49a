"""What is wanted of a device that is reached, and what its facts say of it (targets/on_device/facts.py)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from targets.errors import TimesRefused


class Reached(Protocol):
    """What is wanted of a device (targets/reach/device.py)."""

    @property
    def address(self) -> str: ...

    def facts(self) -> dict[str, Any]: ...

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]: ...  # fmt: skip


CUDA = "CUDAExecutionProvider"


def version_in(facts: Mapping[str, Any], runtime: str) -> str | None:
    """The version of a runtime that a device has, or None."""
    found = facts.get(runtime)
    version = found.get("version") if isinstance(found, Mapping) else found
    return str(version) if version else None


def providers_in(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What the device's ONNX Runtime can compute on, by its own names."""
    found = facts.get("onnxruntime")
    return tuple(str(each) for each in found.get("providers") or ()) if isinstance(found, Mapping) else ()


def identity_of(device: Reached) -> list[Any]:
    """What makes results of one device stay those of that device: its name, board, processors and runtimes."""
    facts = device.facts()
    return [facts.get(name) for name in ("hostname", "board", "gpu", "cpu", "cpu_features", "l4t", "power_mode")]


def is_emulated(facts: Mapping[str, Any]) -> bool:
    """Whether the processor that answers is an emulator's."""
    emulated = facts.get("emulated")
    return bool(emulated.get("yes")) if isinstance(emulated, Mapping) else bool(emulated)


def refuse_emulated(device: Reached) -> None:
    """Pass a real processor.

    Raises:
        TimesRefused: what an emulator takes says nothing about a device.
    """
    if is_emulated(device.facts()):
        raise TimesRefused(
            f"not measured: the processor of {device.address} is emulated, and its times say nothing of a real one"
        )
