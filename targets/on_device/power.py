"""The state of the device now: power mode, clocks, temperatures, throttling, watts. Taken before and after a run.

    power_mode      {"name": "25W", "id": 1} or None
    clocks          {"gpu": {"now_hz", "lowest_hz", "highest_hz"}, "emc": …, "cpu0": …}: the limits and the clock now
    jetson_clocks   the lines of `jetson_clocks --show`, where it may be asked
    gpus            nvidia-smi's, with what holds their clocks down
    temperatures_c  {zone: degrees}
    throttling      {counter: number}: what grows between two states is throttling in between
    rails_w         {rail: watts}

L4T 35 has the GPU's clock at /sys/devices/17000000.ga10b/devfreq/…, L4T 36 at /sys/devices/platform/17000000.gpu/…;
/sys/class/devfreq lists both. Where a file cannot be read, its entry is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from targets.on_device.asking import asked, command_at, listed, number_of, text_of
from targets.on_device.jetson import power_mode
from targets.on_device.nvidia_smi import gpus

# The GPU's names in the device trees of Xavier, Orin and Thor; the first that is there is taken
GPU_FOLDERS = (
    "sys/devices/platform/17000000.gpu/devfreq_dev",
    "sys/devices/17000000.ga10b/devfreq/17000000.ga10b",
    "sys/devices/17000000.gv11b/devfreq/17000000.gv11b",
    "sys/class/devfreq/*gpu*",
    "sys/class/devfreq/*ga10b*",
    "sys/class/devfreq/*gv11b*",
    "sys/class/devfreq/*gpc*",
)
EMC_FOLDER = "sys/kernel/debug/bpmp/debug/clk/emc"
COLDEST_C = -50.0  # a zone whose sensor is off says 0, -256 or nothing


def state(*, root: str = "/") -> dict[str, Any]:
    """Everything, now."""
    return {
        "power_mode": power_mode(root=root),
        "clocks": clocks(root=root),
        "jetson_clocks": jetson_clocks_shown(root=root),
        "gpus": gpus(root=root),
        "temperatures_c": temperatures_c(root=root),
        "throttling": throttling(root=root),
        "rails_w": rails_w(root=root),
    }


def clocks(*, root: str = "/") -> dict[str, dict[str, int]]:
    """Hertz of the GPU, the memory and each group of cores."""
    top, found = Path(root), {}
    for place in GPU_FOLDERS:
        folders = [path for path in listed(top, place) if (path / "cur_freq").exists()]
        if folders:
            found["gpu"] = _clock(folders[0], now="cur_freq", lowest="min_freq", highest="max_freq")
            break
    found["emc"] = _clock(top / EMC_FOLDER, now="rate", lowest="min_rate", highest="max_rate")
    for folder in listed(top, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        names = {"now": "scaling_cur_freq", "lowest": "scaling_min_freq", "highest": "scaling_max_freq"}
        found[folder.parent.name] = _clock(folder, **names, factor=1000)  # the kernel gives kHz here
    return {name: clock for name, clock in found.items() if clock}


def jetson_clocks_shown(*, root: str = "/") -> list[str]:
    """What `jetson_clocks --show` says; it wants to be asked by root."""
    place = command_at("jetson_clocks", root=root)
    if place is None:
        return []
    code, said = asked([*as_root(root=root), place, "--show"])
    return said.splitlines() if code == 0 else []


def as_root(*, root: str = "/") -> list[str]:
    """What stands in front of a command that only root may give; never one that asks for a password."""
    sudo = command_at("sudo", root=root)
    if sudo is None:
        return []
    return [sudo, "-n"]


def temperatures_c(*, root: str = "/") -> dict[str, float]:
    """Degrees of each thermal zone that is on."""
    found = {}
    for folder in listed(Path(root), "sys/class/thermal/thermal_zone[0-9]*"):
        name, value = text_of(folder / "type"), number_of(folder / "temp")
        if name and value is not None and value != 0 and value / 1000 > COLDEST_C:
            found[name] = value / 1000
    return found


def throttling(*, root: str = "/") -> dict[str, int]:
    """Counters of throttling: x86's cores, Jetson's over-current events, cooling devices other than fans."""
    top = Path(root)
    found: dict[str, int] = {}
    for path in listed(top, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"):
        count = number_of(path)
        if count is not None:
            name = f"{path.name.split('_')[0]} throttled by temperature"
            found[name] = max(count, found.get(name, 0))
    for folder in listed(top, "sys/class/hwmon/hwmon*"):
        for path in listed(folder, "oc*_event_cnt"):
            count = number_of(path)
            if count is not None:
                found[f"over-current events {path.name.split('_')[0]}"] = count
    for folder in listed(top, "sys/class/thermal/cooling_device[0-9]*"):
        cooler, step = text_of(folder / "type"), number_of(folder / "cur_state")
        if cooler and step is not None and "fan" not in cooler.lower():
            found[f"cooling by {cooler}"] = max(step, found.get(f"cooling by {cooler}", 0))
    return found


def rails_w(*, root: str = "/") -> dict[str, float]:
    """Watts of each rail of Jetson's INA3221 sensors: millivolts times milliamperes."""
    found = {}
    for folder in listed(Path(root), "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"):
        for label in listed(folder, "in*_label"):
            number = label.name[len("in") : -len("_label")]
            name = text_of(label)
            millivolts = number_of(folder / f"in{number}_input")
            milliamperes = number_of(folder / f"curr{number}_input")
            if name and millivolts is not None and milliamperes is not None:
                found[name] = millivolts * milliamperes / 1e6
    return found


def _clock(folder: Path, *, now: str, lowest: str, highest: str, factor: int = 1) -> dict[str, int]:
    values = {"now_hz": number_of(folder / now), "lowest_hz": number_of(folder / lowest)}
    values["highest_hz"] = number_of(folder / highest)
    return {name: value * factor for name, value in values.items() if value is not None}
