"""Which Jetson this is: board, module, L4T and the JetPack it belongs to, power mode.

The release file's first line is "# R36 (release), REVISION: 4.3, …"; the module is the p-number in the device tree that
is not the carrier board's. L4T → JetPack as in jetson_stats' table (2026-07); a release that is not in it has no
JetPack here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from targets.on_device.asking import asked, command_at, text_of

JETPACKS = {
    "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2", "35.5.0": "5.1.3", "35.6.0": "5.1.4",
    "35.6.1": "5.1.5", "35.6.2": "5.1.5", "35.6.3": "5.1.5", "35.6.4": "5.1.6",
    "36.3.0": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5.0": "6.2.2",
    "38.2.0": "7.0", "38.4.0": "7.1", "39.0.0": "7.2", "39.2.0": "7.2",
}  # fmt: skip
# Modules by the number on NVIDIA's part; any other p-number of the device tree is a carrier board's.
MODULES = {
    "p3767-0000": "Jetson Orin NX 16GB", "p3767-0001": "Jetson Orin NX 8GB",
    "p3767-0003": "Jetson Orin Nano 8GB", "p3767-0004": "Jetson Orin Nano 4GB", "p3767-0005": "Jetson Orin Nano 8GB",
    "p3701-0000": "Jetson AGX Orin", "p3701-0004": "Jetson AGX Orin 32GB", "p3701-0005": "Jetson AGX Orin 64GB",
    "p3668-0000": "Jetson Xavier NX", "p3668-0001": "Jetson Xavier NX", "p3668-0003": "Jetson Xavier NX 16GB",
}  # fmt: skip
# The chip that the device tree names → its GPU and compute capability (jetson_stats, jtop/core/jetson_variables.py)
CHIPS = {"tegra194": ("gv11b", "7.2"), "tegra234": ("ga10b", "8.7"), "tegra264": ("gb10b", "11.0")}
MODULE_FAMILIES = ("p3767", "p3701", "p3668", "p2888", "p3834")
MODE_LINE = re.compile(r"NV Power Mode:\s*(?:MODE_)?(\S+)\s*\n\s*(\d+)")
MODEL_LINE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(?:MODE_)?(\S+?)\s*>")


def jetson_facts(*, root: str = "/") -> dict[str, Any] | None:
    """What is known of the Jetson; None where nothing says that this is one."""
    top = Path(root)
    release = l4t_release(text_of(top / "etc/nv_tegra_release") or "")
    board = text_of(top / "proc/device-tree/model")
    compatible = (text_of(top / "proc/device-tree/compatible") or "").split("\0")
    tree_file = text_of(top / "proc/device-tree/nvidia,dtsfilename")
    if release is None and not any("tegra" in name for name in compatible):
        return None
    sku = module_number(" ".join([*compatible, tree_file or ""]))
    gpu, capability = next((CHIPS[chip] for chip in CHIPS if any(chip in name for name in compatible)), (None, None))
    return {
        "board": board,
        "compatible": [name for name in compatible if name],
        "device_tree_file": tree_file,
        "sku": sku,
        "module": MODULES.get(sku or ""),
        "gpu": gpu,
        "compute_capability": capability,
        "l4t": release,
        "jetpack": JETPACKS.get(release or ""),
        "power_mode": power_mode(root=root),
        "power_modes": power_modes(root=root),
        "jetson_clocks": command_at("jetson_clocks", root=root) is not None,
    }


def l4t_release(text: str) -> str | None:
    """ "36.4.3" from the first line of /etc/nv_tegra_release."""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    if not found:
        return None
    parts = [found.group(1), *found.group(2).split(".")]
    return ".".join([*parts, "0", "0"][:3])


def module_number(text: str) -> str | None:
    """The p-number of the module, such as "p3767-0003"; of several the first that is a module's."""
    for number in re.findall(r"p\d{4}-\d{4}", text):
        if number.startswith(MODULE_FAMILIES):
            return str(number)
    return None


def power_mode(*, root: str = "/") -> dict[str, Any] | None:
    """{"name": "25W", "id": 1}; None where nvpmodel is missing or says nothing. Names count, ids differ per module."""
    nvpmodel = command_at("nvpmodel", root=root)
    if nvpmodel is None:
        return None
    found = MODE_LINE.search(asked([nvpmodel, "-q"])[1])
    return {"name": found.group(1), "id": int(found.group(2))} if found else None


def power_modes(*, root: str = "/") -> dict[str, int]:
    """Name → id of every mode that this module has, from /etc/nvpmodel.conf."""
    text = text_of(Path(root) / "etc/nvpmodel.conf") or ""
    return {name: int(number) for number, name in MODEL_LINE.findall(text)}
