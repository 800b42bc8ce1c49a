"""Place fake quantizers, calibrate them, then train the student against the FP32 teacher with them in place.

Layers may stay in float: those that are named, and with `mixed` those without which the calibrated network loses more
accuracy than it may.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from calibration.observe import Observer, observe
from calibration.observers.mse import MeanSquaredError
from calibration.samples import Samples
from pipeline.candidate import Architecture, Candidate, Form, save_tensors, save_weights
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.objective import distillation_objective
from pipeline.distillation.term import Term
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.functions_behind import functions_behind
from pipeline.quantization.insert import calibrated, point_name, quantized_architecture, watched
from pipeline.quantization.learned_steps import steps_fixed, with_learned_steps
from pipeline.quantization.mixed_precision import MixedPrecision
from pipeline.quantization.preparation import Preparation, Prepared, prepared
from pipeline.quantization.sensitivity import moves_in
from pipeline.quantization.shield import shielded_architecture
from pipeline.quantization.without_teacher import compared_without_teacher, forget_comparison
from pipeline.stage import Run
from pipeline.stages.float_layers import Bench, within_drop, without_twin
from pipeline.stages.spread_samples import samples_from
from pipeline.store import write_bytes
from pipeline.training.loop import Training, discard_checkpoint, train, validation_score
from pipeline.training.optimizers import AdamW
from targets.budget import Budget
from targets.target import Scheme

FLOAT_BIASES = "float-biases.safetensors"  # in the folder of the stage: those before they were corrected


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
            if found.float_biases and self.training is None:
                save_tensors(found.float_biases, run.folder / FLOAT_BIASES)
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
        samples = samples_from(run, self.samples)
        run.progress.advance(0, 1, "calibration")
        if not self.keep_float and self.mixed is None:
            return self._calibrated(module, samples, run, scheme, self.preparation), None
        moves = moves_in(module, keep_float=self.keep_float)
        early = self._calibrated(module, samples, run, scheme, without_twin(self.preparation))
        bench = Bench(module, early, samples, run, scheme, self.keep_float, self.preparation)
        if self.mixed is None:
            return bench.network(()), None
        return within_drop(bench, moves, settings=self.mixed, stage=self.name)

    def _calibrated(
        self, module: nn.Module, samples: Samples, run: Run, scheme: Scheme, preparation: Preparation | None
    ) -> Prepared:
        if preparation is not None:
            return prepared(
                module, samples, settings=preparation, scheme=scheme, seed=run.seed,
                told=lambda step: run.progress.advance(0, 1, step),
            )  # fmt: skip
        graph, placement = watched(module)
        points = {point_name(each): self.observer for each in placement.activations}
        ranges = observe(
            graph, samples, points=points, affine=scheme.affine_activations, behind=functions_behind(graph)
        )
        student, placement = calibrated(graph, placement, ranges=ranges, scheme=scheme)
        return Prepared(student.eval(), placement, ranges, ())
