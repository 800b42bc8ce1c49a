"""What a model may cost on its target: limits, each with where it comes from.

The command line speaks over the recipe, the recipe over the target; a limit keeps its origin through all of it, so
that a report can say whose limit was missed.

Units: ms of p99 latency, times faster than the reference, points of accuracy (1 point = 0.01), MB = 10⁶ bytes.
"""

import math
import re
from dataclasses import dataclass
from enum import Enum

from targets.errors import BudgetUnreadable


class Direction(Enum):
    """Whether the bound is a ceiling or a floor."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True)
class LimitKind:
    """One thing that can be limited: how its bound is written, read and held."""

    name: str
    flag: str  # as the command line spells it
    unit: str
    spellings: tuple[str, ...]  # units a user may write behind the number
    direction: Direction
    zero_allowed: bool
    example: str


LIMIT_KINDS = (
    LimitKind("max_latency_ms", "--max-latency-ms", "ms", ("ms",), Direction.AT_MOST, False, "5ms"),
    LimitKind("min_speedup", "--min-speedup", "x", ("x", "×"), Direction.AT_LEAST, False, "4x"),
    # Zero is a sensible wish here: "no worse than the teacher".
    LimitKind(
        "max_accuracy_drop_points",
        "--max-accuracy-drop",
        "points",
        ("points", "point", "pt"),
        Direction.AT_MOST,
        True,
        "1.0",
    ),
    LimitKind("max_size_mb", "--max-size-mb", "MB", ("mb",), Direction.AT_MOST, False, "2.5MB"),
    LimitKind("max_memory_mb", "--max-memory-mb", "MB", ("mb",), Direction.AT_MOST, False, "256MB"),
)

NUMBER_AND_UNIT = r"([+-]?(?:\d+\.?\d*|\.\d+|nan|inf|infinity)(?:e[+-]?\d+)?)\s*([^\d\s]*)"


def limit_kind(name: str) -> LimitKind:
    """The kind of that name.

    Raises:
        BudgetUnreadable: there is no such limit.
    """
    for kind in LIMIT_KINDS:
        if kind.name == name:
            return kind
    raise BudgetUnreadable(f"There is no limit called '{name}'. Limits are: {', '.join(k.name for k in LIMIT_KINDS)}.")


@dataclass(frozen=True)
class Limit:
    """One bound, in the unit its name ends with, and where it was set."""

    name: str
    bound: float
    origin: str

    def __post_init__(self) -> None:
        kind = limit_kind(self.name)
        what = _why_senseless(self.bound, kind=kind)
        if what:
            raise BudgetUnreadable(
                f"{self.name} = {self.bound} ({self.origin}) {what}. Write for example {kind.example}."
            )
        if not self.origin:
            raise BudgetUnreadable(f"{self.name} = {self.bound} has no origin: say where this limit was set.")


@dataclass(frozen=True)
class Budget:
    """Some limits, at most one of each name."""

    limits: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        names = [limit.name for limit in self.limits]
        for name in names:
            if names.count(name) > 1:
                raise BudgetUnreadable(f"The limit {name} is set twice in one budget: keep one of the two.")

    def over(self, other: "Budget") -> "Budget":
        """This budget, and from the other one the limits that this one does not set."""
        mine = {limit.name: limit for limit in self.limits}
        theirs = {limit.name: limit for limit in other.limits}
        merged = {**theirs, **mine}
        return Budget(tuple(merged[kind.name] for kind in LIMIT_KINDS if kind.name in merged))

    def limit(self, name: str) -> Limit | None:
        """The limit of that name, if this budget sets one."""
        limit_kind(name)
        return next((limit for limit in self.limits if limit.name == name), None)


def limit_from_text(name: str, text: str, *, origin: str) -> Limit:
    """A limit as a user wrote it: '5', '5ms', '4x', '1.5', '2.5 MB'.

    Raises:
        BudgetUnreadable: not a number, the wrong unit, or a number that makes no sense as this limit.
    """
    kind = limit_kind(name)
    match = re.fullmatch(NUMBER_AND_UNIT, text.strip().lower(), flags=re.ASCII)
    if match is None:
        raise BudgetUnreadable(f"{kind.flag} '{text}' ({origin}) is not a number. Write for example {kind.example}.")
    number, unit = float(match[1]), match[2]
    if unit and unit not in kind.spellings:
        raise BudgetUnreadable(
            f"{kind.flag} '{text}' ({origin}) is in '{unit}'; this limit is in {kind.unit}. "
            f"Write for example {kind.example}."
        )
    what = _why_senseless(number, kind=kind)
    if what:
        raise BudgetUnreadable(f"{kind.flag} '{text}' ({origin}) {what}. Write for example {kind.example}.")
    return Limit(name, number, origin)


def _why_senseless(bound: float, *, kind: LimitKind) -> str:
    """Empty for a bound that something can be held against."""
    if not math.isfinite(bound):
        return "is not a finite number"
    if bound < 0:
        return "is negative"
    if bound == 0 and not kind.zero_allowed:
        return (
            "is zero, which nothing can meet"
            if kind.direction is Direction.AT_MOST
            else "is zero, which limits nothing"
        )
    return ""
