"""What the report says of a device that was reached: what it is, and its state before and after it was measured."""

from collections.abc import Mapping
from typing import Any

from pipeline.report_words import milliseconds

PLAIN = (
    ("board", "board"), ("module", "module"), ("gpu", "GPU"), ("compute_capability", "compute capability"),
    ("jetpack", "JetPack"), ("l4t", "L4T"), ("cuda", "CUDA"), ("tensorrt", "TensorRT"),
)  # fmt: skip


def device_rows(seen: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table of conditions; none where this machine was the target."""
    device = seen.get("device")
    if not isinstance(device, Mapping):
        return []
    rows = [(words, str(device[name])) for name, words in PLAIN if device.get(name)]
    before, after = device.get("before") or {}, device.get("after") or {}
    mode = (before.get("power_mode") or {}).get("name") or device.get("power_mode")
    if mode:
        rows.append(("power mode", str(mode)))
    clocks = device.get("clocks")
    if isinstance(clocks, Mapping):
        rows.append(("clocks", "locked" if clocks.get("locked") else f"not locked: {clocks.get('why')}"))
    rows += _hottest(before, after)
    if device.get("compute_p50_ms"):
        p50, p99 = (milliseconds(float(device[f"compute_p{q}_ms"])) for q in (50, 99))
        rows.append(("kernels alone", f"{p50} (p99 {p99}); latency counts the copies to and from the GPU too"))
    if device.get("processes"):
        rows.append(("processes", f"{device['processes']}, each fresh"))
    emulated = device.get("emulated")
    if isinstance(emulated, Mapping) and emulated.get("yes"):
        rows.append(("emulated", f"yes ({emulated.get('why')}): answers count, times do not"))
    rows += [("unstable", str(why)) for why in seen.get("unstable") or ()]
    return rows


def _hottest(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The greatest temperature before and after."""
    pair = [max((state.get("temperatures_c") or {}).values(), default=None) for state in (before, after)]
    if None in pair:
        return []
    return [("hottest part", f"{pair[0]:.1f} °C before, {pair[1]:.1f} °C after")]
