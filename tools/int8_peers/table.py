"""The comparison as markdown, and whether ours is at or above every peer's accuracy, and at or below its latency."""

from typing import Any

from int8_peers.measuring import figures
from int8_peers.opening import NOT_HANDED_OVER
from targets.intervals import paired_drop_interval

COLUMNS = ("network", "tool", "scheme", "accuracy (n)", "mAP50", "agrees with float", "error of answers", "ms",
           "time / float", "integer ops", "quantizing s")  # fmt: skip


def comparison_lines(networks: list[dict[str, Any]]) -> list[str]:
    """A row per network, tool and runtime; then the bars."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---|" + "---:|" * (len(COLUMNS) - 3)]
    for network in networks:
        for row in network["rows"]:
            lines.append(f"| {' | '.join(cells(network, row))} |")
        for tool, why in network["without"].items():
            lines.append(f"| {network['name']} | {tool} | {why} |" + " |" * (len(COLUMNS) - 3))
    return [*lines, "", *inputs_lines(networks), "", *bar_lines(networks)]


def cells(network: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """One engine as texts."""
    seconds = network["seconds"].get(row["tool"])
    low, high = row["ratio_interval"]
    return [
        network["name"], f"{row['tool']} in {row['runtime']}", row["scheme"],
        f"{100 * row['accuracy']:.2f} % ({row['n']})", map50_cell(row),
        f"{100 * row['agreement']:.2f} %", f"{row['error']:.4f}",
        f"{row['median_ms']:.3f}", f"{row['ratio']:.3f} ({low:.3f} to {high:.3f})",
        f"{row['integer']}/{row['products']}", "–" if seconds is None else f"{seconds:.0f}",
    ]  # fmt: skip


def map50_cell(row: dict[str, Any]) -> str:
    """mAP50 in %, or a dash where answers are not read as boxes."""
    found = row.get("map50")
    return "–" if found is None else f"{100 * found:.2f} %"


def inputs_lines(networks: list[dict[str, Any]]) -> list[str]:
    """How many inputs each network was calibrated on and judged by, and what its "accuracy" is."""
    lines = []
    for network in networks:
        first = network["rows"][0]
        line = f"- {network['name']}: {network['calibration']} inputs to calibrate on, {first['n']} others to judge by"
        if network["metric"] != "top1":
            line += f"; accuracy is {network['metric']} to the float network"
        if first.get("map50") is not None:
            line += f"; mAP50 of the boxes on those {first['n']} pictures"
        lines.append(line)
    return lines


def bar_lines(networks: list[dict[str, Any]]) -> list[str]:
    """Ours against each peer's engine: a line each, in words that the interval allows."""
    lines = ["| network | peer | accuracy, ours − peer, points | time, ours / peer |", "|---|---|---:|---:|"]
    for network in networks:
        ours = next((row for row in network["rows"] if is_ours(row)), None)
        if ours is None:
            continue
        for row in network["rows"]:
            if row["tool"] in ("ours", "float"):
                continue
            lines.append(f"| {network['name']} | {peer_cell(row, network['rows'])} | {accuracy_bar(ours, row)} "
                         f"| {latency_bar(ours, row)} |")  # fmt: skip
    return lines


def peer_cell(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Tool and runtime, and the scheme where a tool left several engines for one runtime."""
    name = f"{row['tool']} in {row['runtime']}"
    alike = [each for each in rows if (each["tool"], each["runtime"]) == (row["tool"], row["runtime"])]
    return name if len(alike) == 1 else f"{name}: {row['scheme']}"


def is_ours(row: dict[str, Any]) -> bool:
    """The engine that our user is handed."""
    return row["tool"] == "ours" and NOT_HANDED_OVER not in row["scheme"]


def accuracy_bar(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    """At or above the peer's?"""
    bounds = paired_drop_interval(ours["right"], peer["right"])  # the peer's drop is our lead
    lead = 100 * (ours["accuracy"] - peer["accuracy"])
    words = "met" if lead >= 0 else ("missed" if bounds.high < 0 else "missed by less than the noise")
    return f"{lead:+.2f} ({bounds.low:+.2f} to {bounds.high:+.2f}): {words}"


def latency_bar(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    """At or below the peer's?"""
    found = figures(ours["samples_ms"], peer["samples_ms"])
    low, high = found["ratio_interval"]
    words = "met" if found["ratio"] <= 1 else ("missed" if low > 1 else "missed by less than the noise")
    return f"{found['ratio']:.3f} ({low:.3f} to {high:.3f}): {words}"
