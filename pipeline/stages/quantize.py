"""Place fake quantizers, calibrate them, then train the student against the FP32 teacher with them in place.

Layers may stay in float: those that are named, and with `mixed` those without which the calibrated network loses more
accuracy than it may.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx
from torch import nn

from calibration.observe import Observer, observe
from calibration.observers.mse import MeanSquaredError
from calibration.ranges import Ranges
from calibration.samples import Samples
from calibration.scale import symmetric_amax
from pipeline.candidate import Architecture, Candidate, Form, save_weights
from pipeline.data.dataset import inputs_for_network
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.objective import distillation_objective
from pipeline.distillation.term import Term
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.insert import point_name, quantized, quantized_architecture, watched
from pipeline.quantization.layer_prices import (
    Prices,
    layers_in_order,
    prices_from_macs,
    prices_from_times,
    times_by_layer,
)
from pipeline.quantization.learned_steps import steps_fixed, with_learned_steps
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.mixed_precision import Aim, Mix, MixedPrecision, mixed, polished, relaxed
from pipeline.quantization.preparation import Preparation, Prepared, prepared
from pipeline.quantization.sensitivity import Exam, moves_in
from pipeline.quantization.shield import shielded_architecture
from pipeline.quantization.without_teacher import compared_without_teacher, forget_comparison
from pipeline.stage import Run
from pipeline.stages.export import onnx_of
from pipeline.store import write_bytes, written_atomically
from pipeline.training.loop import Training, discard_checkpoint, train, validation_score
from pipeline.training.optimizers import AdamW
from targets.budget import Budget
from targets.errors import TargetsError
from targets.target import Scheme


@dataclass(frozen=True)
class Quantize:
    """Quantization-aware distillation: FP32 teacher, INT8 student.

    samples: validation inputs that the ranges are read from · observer: how a range is chosen
    training: None leaves the calibrated network as it is (post-training quantization)
    preparation: what to try before the training, or instead of it; None calibrates with `observer` and no more
    keep_float: layers that stay in float, by the names that the report gives them
    mixed: put more layers back to float while the calibrated network loses too much; None leaves them integer
    learned_steps: train the ranges of the activations, too (learned_steps.py)
    compare_without_teacher: train once more from the labels alone, so that the report can say what the teacher brought
    """

    training: Training | None = Training(epochs=4, optimizer=AdamW(lr=3e-4))
    observer: Observer = MeanSquaredError()
    samples: int = 256
    preparation: Preparation | None = None
    terms: tuple[Term, ...] = (SoftTargets(),)
    keep_float: tuple[str, ...] = ()
    mixed: MixedPrecision | None = None
    learned_steps: bool = False
    compare_without_teacher: bool = False
    limits: Budget = Budget()
    name: str = "quantize"

    takes = Form.TORCH
    gives = Form.TORCH
    for_target = True

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        scheme = run.target.scheme()
        found, precision = self._found(candidate.module(), run, scheme)
        student, placement, ranges = found.student, found.placement, found.ranges
        before = validation_score(student, run=run)
        facts: dict[str, Any] = {
            "placement": asdict(placement), "scheme": asdict(scheme), "validation_score_untrained": before,
            "validation_score": before, "tried": [list(step) for step in found.tried],
        }  # fmt: skip
        if precision is not None:
            facts["precision"] = {**precision, "score": before}
        start = copy.deepcopy(student) if self.compare_without_teacher else None
        if self.training is not None:
            if self.learned_steps:
                with_learned_steps(student)
            with distillation_objective(student, terms=self.terms, settings=self.training, run=run) as objective:
                trained = train(student, objective=objective, settings=self.training, run=run, untrained_score=before)
            facts["validation_score"] = trained.best_score
            steps_fixed(student)
        biases_on_grid(student)
        if start is not None and self.training is not None:
            compared = compared_without_teacher(
                start, student, settings=self.training, run=run, learned_steps=self.learned_steps
            )
            facts["without_teacher"] = compared.as_json()
        path = run.folder / "weights.safetensors"
        if run.workers.leads:
            save_weights(student, path)
            write_bytes(run.folder / "ranges.json", ranges.to_json().encode())
            discard_checkpoint(run.folder)
            forget_comparison(run)
        return Candidate(
            self.name, self.gives, run.digest, path, candidate, facts, self.architecture(candidate, run, facts)
        )

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture:
        if candidate.architecture is None:
            raise TypeError("quantize takes a torch candidate")
        return shielded_architecture(
            quantized_architecture(
                candidate.architecture, scheme=Scheme(**facts["scheme"]), placement=facts["placement"]
            )
        )

    def _found(self, module: nn.Module, run: Run, scheme: Scheme) -> tuple[Prepared, dict[str, Any] | None]:
        """The network to go on with, and what was found out about its layers if that was asked."""
        split = run.dataset.validation
        samples = samples_from(run, self.samples)
        run.progress.advance(0, 1, "calibration")
        if not self.keep_float and self.mixed is None:
            return self._calibrated(module, samples, run, scheme, self.preparation), None
        moves = moves_in(module, keep_float=self.keep_float)
        # What looks at the float twin comes last: it must see the layers that are float in the end.
        early = self.preparation and replace(self.preparation, correct_biases=False, rounding=None)
        bench = _Bench(self, module, self._calibrated(module, samples, run, scheme, early), samples, run, scheme)
        found = bench.network(())
        if self.mixed is None:
            return found, None
        floating, score = validation_score(copy.deepcopy(module), run=run), bench.score(found)
        aim = Aim(floating, score, self.mixed.max_drop_points / 100)
        facts: dict[str, Any] = {
            "allowed_drop_points": self.mixed.max_drop_points, "float_score": floating, "quantized_score": score,
            "met": not aim.missed, "rows": [], "tested": [],
        }  # fmt: skip
        if not aim.missed or len(moves.whole.weights) < 2:
            return found, facts
        run.progress.say(
            f"{self.name}: calibrated, the network loses {100 * (floating - score):.2f} points on the validation split "
            f"and {self.mixed.max_drop_points:g} are allowed: looking for the layers to leave in float."
        )
        asked = samples_from(run, self.mixed.samples)
        labels = split.labels[spread(len(split.labels), self.mixed.samples)]
        prices: Prices = run.workers.from_leader(bench.prices() if run.workers.leads else None)
        mix: Mix = run.workers.from_leader(
            mixed(
                bench.calibrated.student, moves, exam=Exam(asked, labels, run.metric), prices=prices,
                validated=lambda layers: bench.score(bench.network(layers)), aim=aim,
                told=run.progress.advance,
            )
        )  # fmt: skip
        run.progress.say(
            f"{self.name}: {len(mix.layers)} layers go back to float; the validation score is {100 * mix.score:.2f} % "
            f"and {100 * floating:.2f} % in float{'' if mix.met else ', beyond what is allowed'}."
        )
        found = bench.network(mix.layers)
        reasons = found.placement.kept_float | mix.reasons()
        placement = replace(found.placement, kept_float=reasons)
        return replace(found, placement=placement), {**facts, **mix.facts(prices), "samples": len(labels)}

    def _calibrated(
        self, module: nn.Module, samples: Samples, run: Run, scheme: Scheme, preparation: Preparation | None
    ) -> Prepared:
        if preparation is not None:
            return prepared(
                module, samples, settings=preparation, scheme=scheme, seed=run.seed,
                told=lambda step: run.progress.advance(0, 1, step),
            )  # fmt: skip
        graph, placement = watched(module)
        ranges = observe(graph, samples, points={point_name(each): self.observer for each in placement.activations})
        amax = {producer: symmetric_amax(ranges[point_name(producer)]) for producer in placement.activations}
        return Prepared(quantized(graph, placement, amax=amax, scheme=scheme).eval(), placement, ranges, ())


@dataclass(frozen=True)
class _Bench:
    """One calibrated network, with any of its layers in float.

    module: the float network · calibrated: with the weights and biases of the float network
    """

    stage: Quantize
    module: nn.Module
    calibrated: Prepared
    samples: Samples
    run: Run
    scheme: Scheme

    def network(self, layers: tuple[str, ...]) -> Prepared:
        """With these layers in float, and those that the stage names."""
        found, steps = self.calibrated, self.stage.preparation
        keep = (*self.stage.keep_float, *layers)
        student, placement = relaxed(found, self.module, keep_float=keep, scheme=self.scheme)
        tried: tuple[tuple[str, float, bool], ...] = ()
        if steps is not None:
            student, tried = polished(
                student, self.samples, correct_biases=steps.correct_biases, rounding=steps.rounding, seed=self.run.seed
            )
        points = [point_name(each) for each in placement.activations]
        notes = {name: found.ranges.notes[name] for name in points if name in found.ranges.notes}
        ranges = Ranges({name: found.ranges[name] for name in points}, notes)
        return Prepared(student, placement, ranges, (*found.tried, *tried))

    def score(self, found: Prepared) -> float:
        """On the validation split."""
        return validation_score(copy.deepcopy(found.student), run=self.run)

    def prices(self) -> Prices:
        """Of every layer: from the times of both engines where they can be had."""
        one = self.samples.inputs[:1]
        student = copy.deepcopy(self.calibrated.student)
        why = "the engine cannot be timed on this machine"
        if self.run.target.answers and self.run.target.is_here():
            try:
                graph, _ = watched(self.module)
                floating = self._times(graph, "priced-float", np.asarray(one))
                integer = self._times(student, "priced-integer", np.asarray(one))
                if floating is not None and integer is not None:
                    return prices_from_times(floating, integer)
                why = "the operators of the engine cannot be told apart by layer"
            except TargetsError as error:
                why = str(error)
        student = copy.deepcopy(self.calibrated.student)  # the first was exported, which replaces its quantizers
        return prices_from_macs(student, one=next(iter(self.samples.batches(1))), why=why)

    def _times(self, graph: Any, name: str, one: np.ndarray) -> dict[str, float] | None:
        """The ms of each layer in the engine of this network, which is built and removed again."""
        layers = layers_in_order(graph)
        model = lowered_for(onnx_of(graph, input_shape=self.run.dataset.input_shape), self.scheme)
        source, engine = self.run.folder / f"{name}.onnx", self.run.target.engine
        path = source.with_suffix(engine.suffix)
        try:
            with written_atomically(source) as beside:
                onnx.save(model, beside)
            engine.build(source, path, threads=self.run.threads)
            return times_by_layer(
                model, engine.layer_times(path, one, threads=self.run.threads), layers=layers
            )  # fmt: skip
        finally:
            for each in (source, path):
                each.unlink(missing_ok=True)


def samples_from(run: Run, count: int) -> Samples:
    """Up to `count` inputs spread over the validation split."""
    split = run.dataset.validation
    places = spread(len(split.labels), count)
    return Samples(
        inputs_for_network(run.dataset, split.inputs[places]),
        origin=f"{run.dataset.name}, split '{split.name}'",
        indices=tuple(int(index) for index in split.indices[places]),
    )


def spread(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` places spread evenly over 0..count−1."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))
