"""The calibrated network with some of its layers in float: those that were named, and those that it misses too much.

Which ones it misses is found by mixed_precision.py while the network loses more accuracy on the validation split than
it may; here are the networks that it asks about, and what is recorded of its answer.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from calibration.samples import Samples
from pipeline.quantization.layer_prices import Prices
from pipeline.quantization.mixed_precision import Aim, Mix, MixedPrecision, mixed
from pipeline.quantization.preparation import Preparation, Prepared
from pipeline.quantization.relaxed import polished, ranges_under, relaxed
from pipeline.quantization.sensitivity import Exam, Moves
from pipeline.stage import Run
from pipeline.stages.priced_layers import prices_on_target
from pipeline.stages.spread_samples import samples_from, spread
from pipeline.training.loop import validation_score
from targets.target import Scheme


@dataclass(frozen=True)
class Bench:
    """One calibrated network, with any of its layers in float.

    module: the float network · calibrated: with the weights and biases of the float network
    keep_float: layers that are float in any case · preparation: its steps that look at the float twin are taken here
    """

    module: nn.Module
    calibrated: Prepared
    samples: Samples
    run: Run
    scheme: Scheme
    keep_float: tuple[str, ...]
    preparation: Preparation | None

    def network(self, layers: tuple[str, ...]) -> Prepared:
        """With these layers in float, and those that stay so in any case."""
        found, steps = self.calibrated, self.preparation
        keep = (*self.keep_float, *layers)
        student, placement = relaxed(found, self.module, keep_float=keep, scheme=self.scheme)
        tried: tuple[tuple[str, float, bool], ...] = ()
        if steps is not None:
            student, tried = polished(
                student, self.samples, correct_biases=steps.correct_biases, rounding=steps.rounding, seed=self.run.seed
            )
        return Prepared(student, placement, ranges_under(placement, found), (*found.tried, *tried))

    def score(self, found: Prepared) -> float:
        """On the validation split."""
        return validation_score(copy.deepcopy(found.student), run=self.run)

    def prices(self) -> Prices:
        """Of every layer."""
        return prices_on_target(
            self.module, self.calibrated.student, samples=self.samples, run=self.run, scheme=self.scheme
        )


def without_twin(preparation: Preparation | None) -> Preparation | None:
    """The steps that need not look at the float twin, which must have the layers that are float in the end."""
    return preparation and replace(preparation, correct_biases=False, rounding=None)


def within_drop(bench: Bench, moves: Moves, *, settings: MixedPrecision, stage: str) -> tuple[Prepared, dict[str, Any]]:
    """The network with as many layers in float as the allowed drop asks for, and what was found out about them.

    stage: its name, for the progress
    """
    run, split, found = bench.run, bench.run.dataset.validation, bench.network(())
    floating, score = validation_score(copy.deepcopy(bench.module), run=run), bench.score(found)
    aim = Aim(floating, score, settings.max_drop_points / 100)
    facts: dict[str, Any] = {
        "allowed_drop_points": settings.max_drop_points, "float_score": floating, "quantized_score": score,
        "met": not aim.missed, "rows": [], "tested": [],
    }  # fmt: skip
    if not aim.missed or len(moves.whole.weights) < 2:
        return found, facts
    run.progress.say(
        f"{stage}: calibrated, the network loses {100 * (floating - score):.2f} points on the validation split "
        f"and {settings.max_drop_points:g} are allowed: looking for the layers to leave in float."
    )
    asked = samples_from(run, settings.samples)
    labels = split.labels[spread(len(split.labels), settings.samples)]
    prices: Prices = run.workers.from_leader(bench.prices() if run.workers.leads else None)
    mix: Mix = run.workers.from_leader(
        mixed(
            bench.calibrated.student, moves, exam=Exam(asked, labels, run.metric), prices=prices,
            validated=lambda layers: bench.score(bench.network(layers)), aim=aim, told=run.progress.advance,
        )
    )  # fmt: skip
    run.progress.say(
        f"{stage}: {len(mix.layers)} layers go back to float; the validation score is {100 * mix.score:.2f} % "
        f"and {100 * floating:.2f} % in float{'' if mix.met else ', beyond what is allowed'}."
    )
    found = bench.network(mix.layers)
    placement = replace(found.placement, kept_float=found.placement.kept_float | mix.reasons())
    return replace(found, placement=placement), {**facts, **mix.facts(prices), "samples": len(labels)}
