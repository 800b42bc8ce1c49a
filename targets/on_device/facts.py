"""What this device is and has: the job `facts`, plain JSON data.

    architecture  cpu  cpu_features  cores  memory_bytes  disk_free_bytes  hostname  operating_system  python
    load_average  governor        as targets/reach/local.py reads them on the machine the command runs on
    emulated      {"yes", "why"}
    onnxruntime   {"version", "providers", "python"} or {"missing": why, "python"}
    tensorrt      {"version", "trtexec": {"path", "version"} or None, "python": [{"interpreter", "version"}], "library"}
    cuda          version of the toolkit
    gpus          [{"name", "compute_capability", "memory_bytes", "clock_mhz", "power_limit_w", …}], from nvidia-smi
    jetson        None, or {"board", "sku", "module", "l4t", "jetpack", "power_mode", "power_modes", "jetson_clocks", …}
    board  l4t  gpu  compute_capability  power_mode        the one that an engine depends on, as a word or None
    clocks_left_locked    a job was killed while it held the clocks; the next one puts them back

What cannot be read is None. The job may name a `root`: a tree of files that stands in for a device, in tests.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from targets.on_device.asking import text_of
from targets.on_device.clocks import NOTE, kept_folder
from targets.on_device.emulation import emulated
from targets.on_device.jetson import jetson_facts
from targets.on_device.nvidia_smi import gpus
from targets.on_device.runtimes_here import cuda_here, onnxruntime_here, tensorrt_here

# As in targets/reach/local.py, which the device does not have.
FEATURES_OF_INTEREST = (
    "sse4_1", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2",
)  # fmt: skip
# ARM's kernel gives numbers where x86's gives a name (arch/arm64/include/asm/cputype.h).
ARM_PARTS = {
    "0x41:0xd03": "Cortex-A53", "0x41:0xd08": "Cortex-A72", "0x41:0xd0b": "Cortex-A76", "0x41:0xd42": "Cortex-A78AE",
    "0x41:0xd83": "Neoverse-V3AE", "0x41:0xd0c": "Neoverse-N1", "0x41:0xd40": "Neoverse-V1",
    "0x41:0xd4f": "Neoverse-V2", "0x4e:0x004": "Carmel",
}  # fmt: skip


def facts(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read everything, once."""
    root = str(job.get("root") or "/")
    top = Path(root)
    cpuinfo = text_of(top / "proc/cpuinfo") or ""
    yes, why = emulated()
    cards, jetson = gpus(root=root), jetson_facts(root=root)
    card, mode = (cards or [{}])[0], (jetson or {}).get("power_mode") or {}
    return {
        "architecture": text_of(top / "proc/sys/kernel/arch") if root != "/" else platform.machine().lower(),
        "cpu": cpu_name(cpuinfo),
        "cpu_features": features_in(cpuinfo),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(text_of(top / "proc/meminfo") or ""),
        "disk_free_bytes": shutil.disk_usage(str(folder)).free,
        "hostname": platform.node() or "unnamed machine",
        "operating_system": operating_system(text_of(top / "etc/os-release") or ""),
        "python": platform.python_version(),
        "load_average": load_average(),
        "governor": text_of(top / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "emulated": {"yes": yes, "why": why},
        "onnxruntime": onnxruntime_here(),
        "tensorrt": tensorrt_here(root=root),
        "cuda": cuda_here(root=root),
        "gpus": cards,
        "jetson": jetson,
        "board": (jetson or {}).get("board") or text_of(top / "proc/device-tree/model"),
        "l4t": (jetson or {}).get("l4t"),
        "gpu": (jetson or {}).get("gpu") or card.get("name"),
        "compute_capability": (jetson or {}).get("compute_capability") or card.get("compute_capability"),
        "power_mode": mode.get("name"),
        "clocks_left_locked": (kept_folder(folder) / NOTE).exists(),
    }


def features_in(cpuinfo: str) -> list[str]:
    """The features of interest in the text of /proc/cpuinfo (x86 calls the line 'flags', ARM 'Features')."""
    flags = (field(cpuinfo, "flags") or field(cpuinfo, "Features") or "").split()
    return [feature for feature in FEATURES_OF_INTEREST if feature in flags]


def cpu_name(cpuinfo: str) -> str:
    """The processor's own name, or the name of its ARM design."""
    part = "%s:%s" % (field(cpuinfo, "CPU implementer"), field(cpuinfo, "CPU part"))
    known = field(cpuinfo, "model name") or ARM_PARTS.get(part)
    return known or platform.processor() or platform.machine() or "unknown processor"


def usable_cores() -> int:
    """The cores this process may run on, which a container may have made fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes(meminfo: str) -> int | None:
    """The memory that the system has; the kernel says kB and means 1024 bytes."""
    total = field(meminfo, "MemTotal")
    return int(total.split()[0]) * 1024 if total else None


def operating_system(release: str) -> str:
    """Kernel, and the distribution where it names itself."""
    kernel = ("%s %s" % (platform.system(), platform.release())).strip()
    for line in release.splitlines():
        if line.startswith("PRETTY_NAME="):
            return "%s (%s)" % (kernel, line.split("=", 1)[1].strip('"'))
    return kernel


def load_average() -> float | None:
    """Processes that wanted to run in the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def field(text: str, name: str) -> str | None:
    """The value of the first line 'name : value'."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None
