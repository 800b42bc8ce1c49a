"""How numbers and verdicts are said in a report: units, digits, words. A number that is missing is a dash."""

import math
from collections.abc import Mapping
from typing import Any

from targets.budget import limit_kind

DASH = "–"
GAP = "\u202f"  # a narrow space that does not break, between digits and before units
LIMITS = {
    "max_latency_ms": "p99 latency",
    "min_speedup": "speed-up over the teacher",
    "max_accuracy_drop_points": "accuracy drop",
    "max_size_mb": "size",
    "max_memory_mb": "peak memory",
}


def digits(value: float, *, significant: int = 3) -> str:
    """`value` with three significant digits, never as a power of ten.

    >>> digits(0.01234), digits(12.345), digits(12345.6)
    ('0.0123', '12.3', '12\\u202f346')
    """
    if value == 0:
        return "0"
    rounded = float(f"{value:.{significant}g}")  # first, so that 9.996 is 10.0 and not 10.00
    places = max(0, significant - 1 - math.floor(math.log10(abs(rounded))))
    return grouped(round(value)) if places == 0 else f"{value:.{min(places, 9)}f}"


def grouped(value: int) -> str:
    """A whole number in groups of three digits."""
    return f"{value:,}".replace(",", GAP)


def milliseconds(value: float | None) -> str:
    """A time."""
    return DASH if value is None else f"{digits(value)}{GAP}ms"


def seconds(value: float) -> str:
    """How long a stage took."""
    if value < 60:
        return f"{value:.1f}{GAP}s"
    minutes, rest = divmod(round(value), 60)
    return f"{grouped(minutes)}{GAP}min {rest:02d}{GAP}s"


def size(value: int | None) -> str:
    """Bytes, in powers of 1000."""
    if value is None:
        return DASH
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= factor:
            return f"{digits(value / factor)}{GAP}{unit}"
    return f"{value}{GAP}B"


def amount(value: int | None) -> str:
    """A count, with M or G where it is large."""
    if value is None:
        return DASH
    for unit, factor in (("G", 10**9), ("M", 10**6)):
        if value >= factor:
            return f"{digits(value / factor)}{GAP}{unit}"
    return grouped(value)


def percent(value: float | None) -> str:
    """A share of one, to a hundredth of a point."""
    return DASH if value is None else f"{100 * value:.2f}{GAP}%"


def factor(value: float | None) -> str:
    """How many times."""
    return DASH if value is None else f"{digits(value)}{GAP}×"


def points(value: float | None) -> str:
    """A difference of accuracies; the sign says which way."""
    if value is None:
        return DASH
    rounded = round(value, 2)
    return f"{0.0 if rounded == 0 else rounded:+.2f}".replace("-", "−").replace("+0.00", "0.00")


def limit_words(name: str) -> str:
    """What a limit is about."""
    return LIMITS.get(name, name)


def bound_words(verdict: Mapping[str, Any]) -> str:
    """The bound of a verdict, with its direction and unit."""
    kind = limit_kind(verdict["limit"])
    return f"{kind.direction.value} {verdict['bound']:g}{GAP}{unit_words(kind.unit, verdict['bound'])}"


def figure_words(verdict: Mapping[str, Any], value: float | None) -> str:
    """A number in the unit of a verdict's limit."""
    if value is None:
        return DASH
    kind = limit_kind(verdict["limit"])
    return f"{bare_words(verdict, value)}{GAP}{unit_words(kind.unit, value)}"


def bare_words(verdict: Mapping[str, Any], value: float) -> str:
    """The same number without its unit."""
    if verdict["limit"] == "max_accuracy_drop_points":
        return points(value).removeprefix("+")
    return digits(value)


def unit_words(unit: str, value: float) -> str:
    """A unit as it is printed."""
    return {"x": "×", "points": "point" if value == 1 else "points"}.get(unit, unit)


def interval_words(verdict: Mapping[str, Any]) -> str:
    """The interval of a verdict; an open end is said to be open."""
    if verdict["interval"] is None:
        return DASH
    low, high = verdict["interval"]
    if low is not None and low == high:
        return "exact"
    ends = ["open" if end is None else bare_words(verdict, end) for end in (low, high)]
    return f"{' … '.join(ends)}{GAP}{unit_words(limit_kind(verdict['limit']).unit, 0)}"


def outcome_of(exit_code: int) -> str:
    """The word for a run's exit code."""
    return {0: "met", 1: "missed"}.get(exit_code, "undecided")


def list_words(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
