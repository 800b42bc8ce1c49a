"""Lower the ONNX file for the target's integer kernels, build the engine, check its answers, and ship the faster one.

A quantized network is built a second time from its float parent. Both engines are timed in turns on the target, and an
integer engine that is slower for certain is not handed over: the float one is, and the report says where the integers
lost.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.data.dataset import inputs_for_network
from pipeline.errors import StageFailed
from pipeline.graph.compare import Agreement, agreement
from pipeline.quantization.fake_quant import has_quantizers
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.stages.export import onnx_of
from pipeline.store import written_atomically
from targets.budget import Budget
from targets.measurement import nearest_rank
from targets.side_by_side import timed_side_by_side

CHECKED_INPUTS = 256


@dataclass(frozen=True)
class Build:
    """ONNX → the target's engine file.

    least_equal: the share of validation answers that must be the same in torch and in the engine
    best_of: build the float parent too, and hand over the faster engine
    """

    least_equal: float = 0.98
    best_of: bool = True
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
        rivals: list[dict[str, Any]] = []
        source = candidate.path
        if run.target.answers and self.best_of:
            path, source, rivals = self._faster(candidate, run, path)
        facts = {
            "agreement": asdict(same), "runtime": engine.runtime, "scheme": asdict(run.target.scheme()),
            "operators": asdict(engine.operators(path)), "rivals": rivals, "source": source.name,
        }  # fmt: skip
        return Candidate(self.name, self.gives, run.digest, path, candidate, facts)

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture | None:
        return None

    def _faster(self, candidate: Candidate, run: Run, integer: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
        """The engine to hand over, the ONNX file it comes from, and what was seen of each rival."""
        parent = float_parent(candidate)
        if parent is None:
            return integer, candidate.path, []
        engine = run.target.engine
        source = run.folder / "float.onnx"
        with written_atomically(source) as beside:
            onnx.save(onnx_of(parent.module(), input_shape=run.dataset.input_shape), beside)
        floating = run.folder / f"float{engine.suffix}"
        engine.build(source, floating, threads=run.threads)
        one = inputs_for_network(run.dataset, run.dataset.validation.inputs[:1])
        pairs = timed_side_by_side(
            engine, reference=floating, candidate=integer, inputs=one, threads=run.threads, seed=run.seed
        )
        bounds = pairs.speedup_interval()
        slower = bounds.high < 1
        rivals: list[dict[str, Any]] = [
            {"name": "int8", "stage": candidate.stage, "p50_ms": nearest_rank(pairs.candidate_ms, 0.5)},
            {"name": "float", "stage": parent.stage, "p50_ms": nearest_rank(pairs.reference_ms, 0.5)},
        ]
        for rival, path, shipped in zip(rivals, (integer, floating), (not slower, slower), strict=True):
            rival |= {"shipped": shipped, "speedup": pairs.speedup, "interval": [bounds.low, bounds.high]}
            if slower:  # where the time goes in each, to see what lost
                rival["layers"] = [asdict(row) for row in engine.layer_times(path, one, threads=run.threads)]
        if not slower:
            return integer, candidate.path, rivals
        run.progress.say(
            f"{self.name}: the INT8 engine is slower than the float one ({pairs.speedup:.2f}×, interval "
            f"{bounds.low:.2f} to {bounds.high:.2f}); the float engine is handed over."
        )
        return floating, source, rivals

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


def float_parent(candidate: Candidate) -> Candidate | None:
    """The nearest torch ancestor without quantizers; None where there is none, or nothing was quantized."""
    torches = [each for each in candidate.ancestry() if each.form is Form.TORCH]
    if not torches or not has_quantizers(torches[0].module()):
        return None
    return next((each for each in torches if not has_quantizers(each.module())), None)
