"""NVIDIA's GPUs as `nvidia-smi` tells them: name, compute capability, memory, clocks, power, why clocks are held down.

A Jetson has no nvidia-smi, or one that answers "[N/A]" to most of this: then the number is None.
"""

from __future__ import annotations

from typing import Any

from targets.on_device.asking import asked, command_at

# Our name → (nvidia-smi's name, factor into our unit)
NUMBERS = {
    "memory_bytes": ("memory.total", 2**20),
    "memory_free_bytes": ("memory.free", 2**20),
    "clock_mhz": ("clocks.sm", 1),
    "clock_max_mhz": ("clocks.max.sm", 1),
    "memory_clock_mhz": ("clocks.mem", 1),
    "power_w": ("power.draw", 1),
    "power_limit_w": ("power.limit", 1),
    "temperature_c": ("temperature.gpu", 1),
}
WORDS = {"name": "name", "compute_capability": "compute_cap", "driver": "driver_version", "mask": "REASONS"}
# Older drivers know the first name alone
REASONS = ("clocks_throttle_reasons.active", "clocks_event_reasons.active")
# Bits of nvmlClocksEventReasons (nvml.h). Idle and clocks that somebody set are no throttling.
BITS = {
    0x4: "the power limit",
    0x8: "a hardware slowdown",
    0x20: "the temperature (software)",
    0x40: "the temperature (hardware)",
    0x80: "the power supply (hardware brake)",
}


def gpus(*, root: str = "/") -> list[dict[str, Any]]:
    """Every GPU that nvidia-smi lists; none where it is missing."""
    place = command_at("nvidia-smi", root=root)
    for reasons in REASONS if place else ():
        names = [*(name if name != "REASONS" else reasons for name in WORDS.values())]
        names += [name for name, _ in NUMBERS.values()]
        code, said = asked([str(place), "--query-gpu=" + ",".join(names), "--format=csv,noheader,nounits"])
        if code == 0:
            return [gpu for gpu in map(gpu_from_line, said.splitlines()) if gpu]
    return []


def gpu_from_line(line: str) -> dict[str, Any] | None:
    """One line of nvidia-smi's table."""
    values = [value.strip() for value in line.split(",")]
    if len(values) != len(WORDS) + len(NUMBERS):
        return None
    gpu: dict[str, Any] = {name: _word(value) for name, value in zip(WORDS, values)}  # noqa: B905 - Python 3.8
    for (name, (_, factor)), value in zip(NUMBERS.items(), values[len(WORDS) :]):  # noqa: B905
        gpu[name] = _number(value, factor)
    gpu["held_down_by"] = held_down_by(gpu.pop("mask"))
    return gpu


def held_down_by(mask: str | None) -> list[str]:
    """What keeps the clocks down, from nvidia-smi's mask such as "0x0000000000000004"."""
    try:
        bits = int(mask or "0", 0)
    except ValueError:
        return []
    return [words for bit, words in BITS.items() if bits & bit]


def _word(value: str) -> str | None:
    return None if value.startswith("[") or not value else value


def _number(value: str, factor: int) -> Any:
    try:
        number = float(value) * factor
    except ValueError:
        return None
    return int(number) if number == int(number) else number
