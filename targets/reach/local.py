"""The machine we are on: what its processor can do, and what else it is doing.

Read from /proc and /sys on Linux; elsewhere from what the platform module knows, and what it does not know is None or
empty. An unknown feature counts as absent: the integer scheme then chooses what is exact everywhere.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from targets.measurement import Conditions

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
BOARD = Path("/proc/device-tree/model")

# The flags that decide which integer or float kernels a runtime takes. x86, then ARM (dotprod is asimddp there).
FEATURES_OF_INTEREST = (
    "sse4_1", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What stays the same between two measurements on one machine."""

    name: str
    architecture: str
    cpu: str
    cpu_features: tuple[str, ...]
    cores: int
    operating_system: str
    memory_bytes: int | None


def describe_machine() -> Machine:
    """This machine."""
    return Machine(
        name=platform.node() or "unnamed machine",
        architecture=platform.machine().lower(),
        cpu=cpu_name(),
        cpu_features=cpu_features(),
        cores=usable_cores(),
        operating_system=f"{platform.system()} {platform.release()}".strip(),
        memory_bytes=_memory_bytes(),
    )


def conditions_here(
    *, target: str, runtime: str, threads: int, batch: int, warmup_runs: int, samples: int, on_target: bool
) -> Conditions:
    """The conditions of a measurement taken now on this machine."""
    machine = describe_machine()
    return Conditions(
        target=target,
        machine=machine.name,
        cpu=machine.cpu,
        cpu_features=machine.cpu_features,
        cores=machine.cores,
        operating_system=machine.operating_system,
        runtime=runtime,
        threads=threads,
        batch=batch,
        warmup_runs=warmup_runs,
        samples=samples,
        load_average=_load_average(),
        governor=_first_line(GOVERNOR),
        memory_bytes=machine.memory_bytes,
        on_target=on_target,
    )


def is_x86() -> bool:
    """Whether this machine is a 64-bit x86."""
    return platform.machine().lower() in ("x86_64", "amd64")


def is_arm64() -> bool:
    """Whether this machine is a 64-bit ARM."""
    return platform.machine().lower() in ("aarch64", "arm64")


def board_name() -> str:
    """What a board calls itself, such as "Raspberry Pi 5 Model B Rev 1.0"; empty where there is no device tree."""
    return _text(BOARD).rstrip("\0\n ")


def cpu_features() -> tuple[str, ...]:
    """The features of interest that this processor has, in a fixed order; empty where they cannot be read."""
    return features_in(_text(CPUINFO))


def features_in(cpuinfo: str) -> tuple[str, ...]:
    """The features of interest in the text of /proc/cpuinfo (x86 calls the line 'flags', ARM 'Features')."""
    flags = (_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split()
    return tuple(feature for feature in FEATURES_OF_INTEREST if feature in flags)


def cpu_name() -> str:
    """The processor's own name."""
    return _field(_text(CPUINFO), "model name") or platform.processor() or platform.machine() or "unknown processor"


def usable_cores() -> int:
    """The cores this process may run on, which a container may have made fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    total = _field(_text(MEMINFO), "MemTotal")
    return int(total.split()[0]) * 1024 if total else None  # the kernel says kB and means 1024 bytes


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _field(text: str, name: str) -> str | None:
    """The value of the first line 'name : value'."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None


def _first_line(path: Path) -> str | None:
    return _text(path).split("\n")[0].strip() or None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
