"""Lower the ONNX file for the target's integer kernels, build the engine, and check its answers against torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import torch

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.data.dataset import inputs_for_network
from pipeline.errors import StageFailed
from pipeline.graph.compare import Agreement, agreement
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.store import written_atomically
from targets.budget import Budget

CHECKED_INPUTS = 256


@dataclass(frozen=True)
class Build:
    """ONNX → the target's engine file.

    least_equal: the share of validation answers that must be the same in torch and in the engine
    """

    least_equal: float = 0.98
    limits: Budget = Budget()
    name: str = "build"

    takes = Form.ONNX
    gives = Form.ENGINE
    for_target = True

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        engine = run.target.engine
        lowered = run.folder / "lowered.onnx"
        model = lowered_for(onnx.load(candidate.path), run.target.scheme())
        with written_atomically(lowered) as beside:
            onnx.save(model, beside)
        path = run.folder / f"engine{engine.suffix}"
        engine.build(lowered, path, threads=run.threads)
        same = self._compare(candidate, run, path)
        if run.target.answers and same.equal_answers < self.least_equal:
            raise StageFailed(
                f"the engine gives the same answer as the torch network on {100 * same.equal_answers:.1f} % of "
                f"{same.inputs} validation inputs (at least {100 * self.least_equal:.0f} % wanted). "
                f"The engine is kept at {path}; run `compress doctor` and report both."
            )
        facts = {
            "agreement": asdict(same), "runtime": engine.runtime, "scheme": asdict(run.target.scheme()),
            "operators": asdict(engine.operators(path)),
        }  # fmt: skip
        return Candidate(self.name, self.gives, run.digest, path, candidate, facts)

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture | None:
        return None

    def _compare(self, candidate: Candidate, run: Run, path: Any) -> Agreement:
        inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs[:CHECKED_INPUTS])
        origin = next(ancestor for ancestor in candidate.ancestry() if ancestor.form is Form.TORCH)
        with torch.inference_mode():
            expected = origin.module()(torch.from_numpy(inputs)).numpy()
        runner = run.target.engine.open(path, threads=run.threads)
        try:
            answers = np.concatenate([runner(inputs[place : place + 1]) for place in range(len(inputs))])
        finally:
            runner.close()
        return agreement(expected, answers)
