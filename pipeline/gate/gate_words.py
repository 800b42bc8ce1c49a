"""What a gate found, in words: a line's change, interval and limit, and the verdict in one sentence.

One place for the terminal, the Markdown summary, the JUnit file and the annotations, so that none says it otherwise.
"""

import math

from pipeline.gate.outcome import Finding, Gate, Line
from pipeline.report_words import DASH, GAP, digits

SIGNS = {Finding.FINE: "✓", Finding.REGRESSED: "✗", Finding.UNDECIDED: "?", Finding.REPORTED: "·"}
UNDECIDED = ("undecided", "pass", "fail")  # what a gate may make of a line that it could not decide


def is_judged(line: Line) -> bool:
    """Whether somebody set a limit on the line, or it has a finding all the same."""
    return line.limit is not None or line.finding is not Finding.REPORTED


def value_words(value: float | None) -> str:
    """A number of either engine, with four significant digits: the changes that matter are in the third."""
    return DASH if value is None else digits(value, significant=4).replace(GAP, " ")


def name_words(line: Line) -> str:
    """What the line is about, with the unit of its numbers: "latency, ms"."""
    return f"{line.name}, {line.unit}" if line.unit and line.unit != line.name else line.name


def change_words(line: Line) -> str:
    """By how much the candidate differs: "+3.12 %", or "+0.50 points" of a drop."""
    if line.change is None:
        return DASH
    return f"{_number(line, line.change)} {_unit(line)}"


def interval_words(line: Line) -> str:
    """The interval of the change: "+2.41 … +3.80 %"; "exact" where it has no width; an open end is said to be open."""
    if line.low is None and line.high is None:
        return DASH
    if line.low == line.high:
        return "exact"
    ends = ["open" if end is None else _number(line, end) for end in (line.low, line.high)]
    return f"{' … '.join(ends)} {_unit(line)}"


def limit_words(line: Line) -> str:
    """The most that is allowed: "+2 %", or "0.5 points"."""
    if line.limit is None:
        return DASH
    if line.nature == "drop":
        return f"{line.limit:g} {'point' if line.limit == 1 else 'points'}"
    value = round(100 * (line.limit - 1), 6)
    return f"{value:+g} %" if value else "0 %"


def line_words(line: Line) -> str:
    """The line in half a sentence: "latency +3.12 % (interval +2.41 … +3.80 %), at most +2 % is allowed"."""
    known = f"{line.name} {change_words(line)}" if line.change is not None else f"{line.name} is not known"
    interval = interval_words(line)
    known += "" if interval == DASH else f" ({'' if interval == 'exact' else 'interval '}{interval})"
    return known + ("" if line.limit is None else f", at most {limit_words(line)} is allowed")


def line_sentence(line: Line) -> str:
    """The same with its reason."""
    why = " ".join(line.why.split())
    joined = f"{line_words(line)}{'; ' if why[:1].islower() else '. '}{why}".rstrip("; .")
    return f"{joined}."


def verdict_words(gate: Gate) -> str:
    """What the gate says in one sentence, without its sign.

    The first line that decided is told in full, others by name.
    """
    judged = [line for line in gate.lines if is_judged(line)]
    if not judged:
        return f"{gate.finding.value}: no line has a limit{_effort(gate)}."
    first, *others = [line for line in judged if line.finding is gate.finding]
    also = f"; also {first.finding.value}: {', '.join(line.name for line in others)}" if others else ""
    return f"{gate.finding.value}: {line_words(first)}{also}{_effort(gate)}{_smallest(gate)}."


def _effort(gate: Gate) -> str:
    count = len(gate.process_ratios)
    if not count:
        return ""
    return f"; measured in {count} {'process' if count == 1 else 'processes'} and {gate.seconds:.0f} s"


def _smallest(gate: Gate) -> str:
    if gate.smallest_seen is None:
        return ""
    return f"; a slow-down of {100 * (gate.smallest_seen - 1):.2f} % would have been found in 19 of 20 such runs"


def _number(line: Line, value: float) -> str:
    """With a sign, and two decimals unless the difference is smaller than they show."""
    shown = value if line.nature == "drop" else 100 * (value - 1)
    if abs(shown) < 1e-9:  # what is left of 1 after a division
        return "0.00"
    return f"{shown:+.{2 if abs(shown) >= 0.005 else -math.floor(math.log10(abs(shown)))}f}"


def _unit(line: Line) -> str:
    return "points" if line.nature == "drop" else "%"
