"""What a gate found, for a terminal: the verdict in one sentence, a row per line with its reason below it, remarks."""

import textwrap

from pipeline.gate.gate_words import (
    SIGNS,
    change_words,
    interval_words,
    limit_words,
    name_words,
    value_words,
    verdict_words,
)
from pipeline.gate.outcome import Gate, Line

WIDTH = 110
HEAD = ("", "baseline", "candidate", "change", "interval", "limit", "finding")


def gate_text(gate: Gate) -> str:
    """The whole answer, ending in a line break."""
    where = f"{gate.target}, on {gate.device}" if gate.device else gate.target
    told = (("baseline", gate.baseline), ("candidate", gate.candidate), ("target", where))
    parts = [
        _wrapped(f"{SIGNS[gate.finding]} {verdict_words(gate)}", after="  "),
        "".join(f"  {name:<9}  {_one_line(value)}\n" for name, value in told),
        _table(gate.lines),
        "".join(_wrapped(f"- {_one_line(remark)}", after="  ") for remark in gate.remarks),
    ]
    return "\n".join(part for part in parts if part)


def _table(lines: tuple[Line, ...]) -> str:
    rows = [HEAD, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    text = ""
    for place, row in enumerate(rows):
        last = len(row) - 1
        padded = [
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        text += "  ".join(padded).rstrip() + "\n"
        why = _one_line(lines[place - 1].why) if place else ""
        text += _wrapped(why, before="    ", after="    ") if why else ""
    return text


def _cells(line: Line) -> tuple[str, ...]:
    finding = f"{SIGNS[line.finding]} {line.finding.value}"
    values = (value_words(line.baseline), value_words(line.candidate))
    return (name_words(line), *values, change_words(line), interval_words(line), limit_words(line), finding)


def _wrapped(text: str, *, before: str = "", after: str = "") -> str:
    """`text` in lines of at most WIDTH; a path is never broken."""
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=before, subsequent_indent=after, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())
