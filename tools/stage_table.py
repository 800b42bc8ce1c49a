"""Markdown tables from the `--json` output of runs, for docs/results.md.

compress --target x86-cpu --json > digits.json; python tools/stage_table.py digits.json
"""

import json
import sys
from pathlib import Path
from typing import Any

COLUMNS = (
    "stage",
    "form",
    "accuracy",
    "n",
    "parameters",
    "MMACs",
    "size kB",
    "p50 ms",
    "p99 ms",
    "memory MB",
    "time s",
)


def main() -> None:
    """Print the tables of every file named."""
    for name in sys.argv[1:]:
        print("\n".join(tables(json.loads(Path(name).read_text(encoding="utf-8")))))


def tables(told: dict[str, Any]) -> list[str]:
    """The stages, and the verdicts."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    lines += [f"| {' | '.join(cells(row))} |" for row in told["stages"]]
    engine = told["engine"]
    counts = f"{engine['integer_ops']} convolutions and matrix products in integers, {engine['float_ops']} in float"
    lines += ["", f"Engine: {engine['runtime']}, {counts}."]
    lines += ["", "| limit | bound | measured | interval | verdict | set by |", "|---|---:|---:|---:|---|---|"]
    for verdict in told["verdicts"]:
        low, high = (("…" if end is None else f"{end:.3g}") for end in verdict["interval"] or (None, None))
        measured = "–" if verdict["measured"] is None else f"{verdict['measured']:.3g}"
        lines.append(
            f"| {verdict['limit']} | {verdict['bound']:g} | {measured} | {low} to {high} | {verdict['verdict']} "
            f"| {verdict['origin']} |"
        )
    return [*lines, ""]


def cells(row: dict[str, Any]) -> list[str]:
    """One stage as texts; what was not measured is a dash."""

    def number(name: str, form: str, factor: float = 1) -> str:
        return "–" if row[name] is None else format(row[name] * factor, form)

    return [
        row["name"], row["form"], number("accuracy", ".2f", 100) + " %", number("accuracy_n", "d"),
        number("parameters", ",d"), number("macs", ".2f", 1e-6), number("size_bytes", ".0f", 1e-3),
        number("latency_p50_ms", ".3f"), number("latency_p99_ms", ".3f"), number("peak_memory_bytes", ".1f", 1e-6),
        number("seconds", ".1f"),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
