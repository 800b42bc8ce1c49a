"""Place fake quantizers, calibrate them, then train the student against the FP32 teacher with them in place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from calibration.observe import Observer, observe
from calibration.observers.mse import MeanSquaredError
from calibration.samples import Samples
from calibration.scale import symmetric_amax
from pipeline.candidate import Architecture, Candidate, Form, save_weights
from pipeline.data.dataset import inputs_for_network
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.objective import distillation_objective
from pipeline.distillation.term import Term
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.insert import point_name, quantized, quantized_architecture, watched
from pipeline.quantization.preparation import Preparation, Prepared, prepared
from pipeline.stage import Run
from pipeline.store import write_bytes
from pipeline.training.loop import Training, discard_checkpoint, train, validation_score
from pipeline.training.optimizers import AdamW
from targets.budget import Budget
from targets.target import Scheme


@dataclass(frozen=True)
class Quantize:
    """Quantization-aware distillation: FP32 teacher, INT8 student.

    samples: validation inputs that the ranges are read from · observer: how a range is chosen
    training: None leaves the calibrated network as it is (post-training quantization)
    preparation: what to try before the training, or instead of it; None calibrates with `observer` and no more
    """

    training: Training | None = Training(epochs=4, optimizer=AdamW(lr=3e-4))
    observer: Observer = MeanSquaredError()
    samples: int = 256
    preparation: Preparation | None = None
    terms: tuple[Term, ...] = (SoftTargets(),)
    limits: Budget = Budget()
    name: str = "quantize"

    takes = Form.TORCH
    gives = Form.TORCH
    for_target = True

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        scheme = run.target.scheme()
        found = self._calibrated(candidate.module(), run, scheme)
        student, placement, ranges = found.student, found.placement, found.ranges
        before = validation_score(student, run=run)
        facts: dict[str, Any] = {
            "placement": asdict(placement), "scheme": asdict(scheme), "validation_score_untrained": before,
            "validation_score": before, "tried": [list(step) for step in found.tried],
        }  # fmt: skip
        if self.training is not None:
            with distillation_objective(student, terms=self.terms, settings=self.training, run=run) as objective:
                trained = train(student, objective=objective, settings=self.training, run=run, untrained_score=before)
            facts["validation_score"] = trained.best_score
        biases_on_grid(student)
        path = run.folder / "weights.safetensors"
        if run.workers.leads:
            save_weights(student, path)
            write_bytes(run.folder / "ranges.json", ranges.to_json().encode())
            discard_checkpoint(run.folder)
        return Candidate(
            self.name, self.gives, run.digest, path, candidate, facts, self.architecture(candidate, run, facts)
        )

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture:
        if candidate.architecture is None:
            raise TypeError("quantize takes a torch candidate")
        return quantized_architecture(
            candidate.architecture, scheme=Scheme(**facts["scheme"]), placement=facts["placement"]
        )

    def _calibrated(self, module: nn.Module, run: Run, scheme: Scheme) -> Prepared:
        split = run.dataset.validation
        places = spread(len(split.labels), self.samples)
        samples = Samples(
            inputs_for_network(run.dataset, split.inputs[places]),
            origin=f"{run.dataset.name}, split '{split.name}'",
            indices=tuple(int(index) for index in split.indices[places]),
        )
        run.progress.advance(0, 1, "calibration")
        if self.preparation is not None:
            return prepared(
                module, samples, settings=self.preparation, scheme=scheme, seed=run.seed,
                told=lambda step: run.progress.advance(0, 1, step),
            )  # fmt: skip
        graph, placement = watched(module)
        ranges = observe(graph, samples, points={point_name(each): self.observer for each in placement.activations})
        amax = {producer: symmetric_amax(ranges[point_name(producer)]) for producer in placement.activations}
        return Prepared(quantized(graph, placement, amax=amax, scheme=scheme).eval(), placement, ranges, ())


def spread(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` places spread evenly over 0..count−1."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64))
