"""Lower the ONNX file for the target's integer kernels, build the engine, check its answers, and ship the faster one.

A quantized network is built a second time from its float parent. Both engines are timed in turns on the target, and an
integer engine that is slower for certain is not handed over: the float one is, and the report says where the integers
lost.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.data.dataset import Split, inputs_for_network
from pipeline.errors import StageFailed
from pipeline.graph.compare import Agreement, agreement
from pipeline.graph.first_difference import differences, first_notable
from pipeline.graph.parity import hops, unequal_allowed
from pipeline.quantization.fake_quant import exportable, has_quantizers, is_activation_point
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.stage import Run
from pipeline.stages.export import answers_of_onnx, onnx_of
from pipeline.store import written_atomically
from targets.budget import Budget
from targets.measurement import nearest_rank
from targets.side_by_side import timed_side_by_side

CHECKED_INPUTS = 256  # by every form on the way
EXAMINED = 16  # tensor by tensor, to find a difference
AT_ONCE = 256


@dataclass(frozen=True)
class Build:
    """ONNX → the target's engine file.

    least_equal: the share of test answers that must be the same in the torch network and in the engine, near ties aside
    best_of: build the float parent too, and hand over the faster engine
    """

    least_equal: float = 0.999
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
        refused = refusals(model, rules_from_scheme(run.target.scheme())) if run.target.answers else []
        if refused:
            raise StageFailed(
                f"{engine.runtime} would not compute {candidate.path.name} as it is written: {' · '.join(refused[:5])}"
            )
        with written_atomically(lowered) as beside:
            onnx.save(model, beside)
        path = run.folder / f"engine{engine.suffix}"
        engine.build(lowered, path, threads=run.threads)
        same = self._parity(candidate, run, path)
        unequal = same.clearly_unequal
        if run.target.answers and unequal > unequal_allowed(same.inputs, least_equal=self.least_equal):
            raise StageFailed(
                f"the engine and the torch network answer {unequal} of {same.inputs} test inputs clearly differently, "
                f"and {100 * self.least_equal:.1f} % equal answers are wanted{self._where(candidate, run, model)}. "
                f"The engine is kept at {path}; leave that layer out of the quantize stage, or report both files."
            )
        passed = self._hops(candidate, run, lowered, path) if run.target.answers else []
        rivals: list[dict[str, Any]] = []
        source = candidate.path
        if run.target.answers and self.best_of:
            path, source, rivals = self._faster(candidate, run, path)
        facts = {
            "agreement": asdict(same), "runtime": engine.runtime, "scheme": asdict(run.target.scheme()),
            "operators": asdict(engine.operators(path)), "rivals": rivals, "source": source.name,
            "hops": passed,
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

    def _parity(self, candidate: Candidate, run: Run, path: Path) -> Agreement:
        """The engine against the torch network that it was made from, on the test split."""
        split = run.dataset.test
        with closing(run.target.engine.open(path, threads=run.threads)) as runner:
            found = []
            for start in range(0, len(split), AT_ONCE):
                inputs = inputs_for_network(run.dataset, split.inputs[start : start + AT_ONCE])
                found.append(np.concatenate([runner(inputs[place : place + 1]) for place in range(len(inputs))]))
                run.progress.advance(start + len(inputs), len(split), "engine against torch")
        return agreement(exact_answers(torch_origin(candidate), run, split), np.concatenate(found))

    def _hops(self, candidate: Candidate, run: Run, lowered: Path, engine: Path) -> list[dict[str, Any]]:
        """Every form on the way, each against the one before, on validation inputs."""
        split = run.dataset.validation
        split = replace(split, inputs=split.inputs[:CHECKED_INPUTS])
        inputs = inputs_for_network(run.dataset, split.inputs)
        answers = []
        for ancestor in reversed(list(candidate.ancestry())):
            if ancestor.form is Form.TORCH:
                answers.append((ancestor.stage, torch_answers(ancestor, run, split)))
            elif ancestor.form is Form.ONNX:
                answers.append((f"{ancestor.stage}: ONNX", answers_of_onnx(ancestor.path, inputs)))
        answers.append(("lowered ONNX", answers_of_onnx(lowered, inputs)))
        with closing(run.target.engine.open(engine, threads=run.threads)) as runner:
            parts = [runner(inputs[place : place + 1]) for place in range(len(inputs))]
        return hops([*answers, ("engine", np.concatenate(parts))])

    def _where(self, candidate: Candidate, run: Run, lowered: onnx.ModelProto) -> str:
        """ ", first in …" with the first tensor whose codes differ notably; nothing where nothing was quantized."""
        module = torch_origin(candidate).module()
        if not has_quantizers(module):
            return ""
        inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs[:EXAMINED])
        rows = differences(
            exportable(module), is_point=is_activation_point, canonical=onnx.load(candidate.path), lowered=lowered,
            inputs=inputs,
        )  # fmt: skip
        worst = first_notable(rows)
        if worst is None:
            return ""
        share = f"{100 * worst.share:.1f} % of the codes differ, by up to {worst.largest}"
        return f", first in {worst.tensor}, where {share}"


def torch_origin(candidate: Candidate) -> Candidate:
    """The torch network that a file was exported from."""
    return next(ancestor for ancestor in candidate.ancestry() if ancestor.form is Form.TORCH)


def exact_answers(candidate: Candidate, run: Run, split: Split) -> NDArray[np.floating[Any]]:
    """`torch_answers` in float64, so that sums are exact and a difference is the engine's, not torch's float32.

    A network that insists on float32 in its own code answers in float32.
    """
    module = exportable(candidate.module()).double()
    try:
        return torch_answers(candidate, run, split, module=module)
    except RuntimeError:
        return torch_answers(candidate, run, split)


def torch_answers(
    candidate: Candidate, run: Run, split: Split, *, module: nn.Module | None = None
) -> NDArray[np.floating[Any]]:
    """What a torch candidate answers to the inputs of a split; (N, …).

    module: the network to ask in its place, in its own precision
    """
    module = module or candidate.module()
    precision = next((each.dtype for each in module.parameters()), torch.float32)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(split.inputs), AT_ONCE):
            inputs = inputs_for_network(run.dataset, split.inputs[start : start + AT_ONCE])
            parts.append(module(torch.from_numpy(inputs).to(precision)).numpy())
    return np.concatenate(parts)


def float_parent(candidate: Candidate) -> Candidate | None:
    """The nearest torch ancestor without quantizers; None where there is none, or nothing was quantized."""
    torches = [each for each in candidate.ancestry() if each.form is Form.TORCH]
    if not torches or not has_quantizers(torches[0].module()):
        return None
    return next((each for each in torches if not has_quantizers(each.module())), None)
