"""Which layers go back to float when a calibrated network misses the accuracy it may lose, and which of them need not.

    order      greedily: the move whose quantization, alone, puts the answers off most per price of the layers it adds
    how many   1, 2, 4, … moves of that order until the drop is within what is allowed, then halving
    back       of what went back, the dearest first: does it hold without?

The drop is that of the validation score, and the one that the error foretells: D · E / E₀. Both must be allowed. The
score of a few hundred inputs moves by points from one mix to the next, and of several mixes one is lucky: measured on a
MobileNet, one layer in float brought 6 points on 200 validation inputs and none on the test inputs.

The price of a layer is what its integers save, in ms where both engines can be timed layer by layer, else its
multiply-accumulates. Every number of moves that is considered is measured on the validation split, never on the test
split, and what is chosen is measured once more by whoever asked.

Letters: E error of the answers with a mix (sensitivity.py), E₀ and D error and drop with all quantized.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from pipeline.quantization.layer_prices import Prices
from pipeline.quantization.sensitivity import (
    Exam,
    Move,
    Moves,
    Sensitivities,
    Told,
    quantizers_of,
    sensitivities,
    standings_with,
)

ROUNDING = 1e-9  # 0.5 − 0.09 is more than 0.41 in floating point
Validated = Callable[[tuple[str, ...]], float]  # layers that are float → the score on the validation split


@dataclass(frozen=True)
class MixedPrecision:
    """Settings. max_drop_points: of the validation score, below the float network's · samples: for the sensitivity"""

    max_drop_points: float = 1.0
    samples: int = 256

    def __post_init__(self) -> None:
        if not (self.max_drop_points >= 0 and self.samples >= 1):
            raise ValueError(
                f"a mix needs an allowed drop of 0 points or more and at least one sample, not {self.max_drop_points}, "
                f"{self.samples}"
            )


@dataclass(frozen=True)
class Aim:
    """Scores on the validation split: in float and with all quantized; and the drop that is allowed (0..1)."""

    floating: float
    quantized: float
    allowed: float

    @property
    def missed(self) -> bool:
        """Whether the network with all quantized loses too much."""
        return self.floating - self.quantized > self.allowed + ROUNDING


@dataclass(frozen=True)
class Trial:
    """One mix that was measured. foretold: the drop that its error lets expect"""

    layers: tuple[str, ...]
    score: float
    foretold: float


@dataclass(frozen=True)
class Mix:
    """What was chosen, and why.

    layers: those that go back to float · score: on the validation split, with them in float · met: within the drop
    causes: layer → the move that brought it here, and E with what that added quantized and all else float
    tested: in the order in which they were measured
    """

    layers: tuple[str, ...]
    score: float
    met: bool
    table: Sensitivities
    causes: dict[str, tuple[Move, float]]
    tested: tuple[Trial, ...]

    def reasons(self) -> dict[str, str]:
        """Why each of the layers is float."""
        found = {}
        for name in self.layers:
            move, error = self.causes[name]
            others = " and ".join(each for each in move.layers if each != name)
            also = f" together with {others}" if others else ""
            found[name] = f"mixed precision: quantized{also}, it alone puts the answers off by {100 * error:.2g} %"
        return found

    def facts(self, prices: Prices) -> dict[str, Any]:
        """For the record: every move with what was measured, its price, and whether all of it went back to float."""
        rows = [
            {
                "layers": list(row.move.layers), "error_alone_quantized": row.alone_quantized.error,
                "error_alone_float": row.alone_float.error, "score_alone_float": row.alone_float.score,
                "price": prices.of(row.move.layers), "float": set(row.move.layers) <= set(self.layers),
            }
            for row in self.table.rows
        ]  # fmt: skip
        tested = [[list(each.layers), each.score, each.foretold] for each in self.tested]
        return {
            "met": self.met, "rows": rows, "tested": tested,
            "unit": prices.unit, "prices": prices.origin, "error": self.table.quantized.error,
        }  # fmt: skip


def mixed(
    student: fx.GraphModule,
    moves: Moves,
    *,
    exam: Exam,
    prices: Prices,
    validated: Validated,
    aim: Aim,
    told: Told | None = None,
) -> Mix:
    """Choose the layers that go back to float so that the drop is allowed.

    student: watched, quantized and calibrated, with the weights and biases of its float network
    """
    every = moves.every()
    table = sensitivities(student, every, exam=exam, told=told)
    known = {row.move.quantizers: row.alone_quantized.error for row in table.rows}
    order = _Order(student, moves, every, exam, prices, known)
    trials = _Trials(student, moves, exam, validated, aim, table.quantized.error)
    count = 1
    while not trials.meets(order.first(count)) and len(order.found) >= count:
        count *= 2
    if not trials.meets(order.first(count)):
        trials.trial(())
        best = min(trials.tested, key=lambda each: (trials.drop(each), len(each.layers)))
        return Mix(best.layers, best.score, False, table, order.causes, tuple(trials.tested))
    low, high = count // 2, min(count, len(order.found))  # `low` moves are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if trials.meets(order.first(middle)) else (middle, high)
    layers = order.first(high)
    for name in sorted(layers, key=lambda each: -prices.by_layer[each]):
        fewer = tuple(each for each in layers if each != name)
        if fewer and trials.meets(fewer):
            layers = fewer
    return Mix(layers, trials.trial(layers).score, True, table, order.causes, tuple(trials.tested))


@dataclass
class _Order:
    """The moves in greedy order, found as far as they are asked for."""

    student: fx.GraphModule
    moves: Moves
    every: Sequence[Move]
    exam: Exam
    prices: Prices
    known: dict[frozenset[str], float]  # quantizers at work alone → E
    found: list[Move] = field(default_factory=list)  # each with all that went before
    causes: dict[str, tuple[Move, float]] = field(default_factory=dict)

    def first(self, count: int) -> tuple[str, ...]:
        """The layers of the first `count` moves, or of all there are."""
        while len(self.found) < count and (following := self._next()) is not None:
            self.found.append(following)
        return self.found[min(count, len(self.found)) - 1].layers if self.found else ()

    def _next(self) -> Move | None:
        chosen = self.found[-1] if self.found else Move((), frozenset())
        wider = {
            move: {*chosen.layers, *move.layers} for move in self.every if not set(move.layers) <= {*chosen.layers}
        }
        wider = {move: layers for move, layers in wider.items() if len(layers) < len(self.moves.whole.weights)}
        added = {move: self._within(layers) - chosen.quantizers for move, layers in wider.items()}
        unknown = sorted({each for each in added.values() if each not in self.known}, key=sorted)
        standings = standings_with(self.student, unknown, exam=self.exam)
        self.known |= {each: standing.error for each, standing in zip(unknown, standings, strict=True)}
        worth = {move: self.known[added[move]] / self.prices.of(wider[move] - {*chosen.layers}) for move in wider}
        best = max(wider, key=lambda move: worth[move], default=None)
        if best is None:
            return None
        following = self.moves.of(wider[best])
        for name in following.layers:
            self.causes.setdefault(name, (best, self.known[added[best]]))
        return following

    def _within(self, layers: set[str]) -> frozenset[str]:
        """The quantizers that go with these layers, but for those that only three or more release together."""
        return frozenset[str]().union(*(move.quantizers for move in self.every if set(move.layers) <= layers))


@dataclass
class _Trials:
    """Each set of layers that was asked about, measured once."""

    student: fx.GraphModule
    moves: Moves
    exam: Exam
    validated: Validated
    aim: Aim
    error: float  # E₀
    tested: list[Trial] = field(default_factory=list)

    def trial(self, layers: tuple[str, ...]) -> Trial:
        known = next((each for each in self.tested if each.layers == layers), None)
        if known is None:
            on = quantizers_of(self.student) - self.moves.of(layers).quantizers
            (standing,) = standings_with(self.student, [on], exam=self.exam)
            foretold = (self.aim.floating - self.aim.quantized) * standing.error / max(self.error, 1e-12)
            known = Trial(layers, self.validated(layers), foretold)
            self.tested.append(known)
        return known

    def drop(self, trial: Trial) -> float:
        """The worse of the two."""
        return max(self.aim.floating - trial.score, trial.foretold)

    def meets(self, layers: tuple[str, ...]) -> bool:
        return self.drop(self.trial(layers)) <= self.aim.allowed + ROUNDING
