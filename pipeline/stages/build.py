"""Lower the ONNX file for the target's integer kernels, build the engine, check its answers, and ship the fastest one.

A quantized network is built a second time from its float parent, a third time with those layers in float kernels whose
integer kernels are the slower ones, and all in the target's further runtimes where those are installed. They are timed
in turns on the target (rivals.py), and the report says why those that lost did. For a target that is not here the
lowered file takes the engine's place, to be built on the device, and is held to the same answers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.errors import StageFailed
from pipeline.quantization.fake_quant import has_quantizers
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.stage import Run
from pipeline.stages.further_engines import in_further_engines
from pipeline.stages.gpu_rivals import with_gpu_forms, with_sparse_kernels
from pipeline.stages.mixed_kernels import with_mixed
from pipeline.stages.rivals import FLOAT, INT8, MIXED, Rival, fastest, rivals_of, rows, timed
from pipeline.stages.same_answers import Parity, float_parent, passed_hops, torch_origin, where_they_part
from pipeline.stages.within_budget import over_budget
from pipeline.store import written_atomically
from targets.budget import Budget
from targets.engines.gpu_forms import told_of_build

COMPARED = 1000  # validation inputs that a rival must answer like its torch network before it may win


@dataclass(frozen=True)
class Build:
    """ONNX → the target's engine file.

    least_equal: the share of test answers that must be the same in the torch network and in the engine, near ties
        aside, and those that the student's own integers give (decision 0016)
    best_of: build the float parent too, and hand over the faster engine
    further_engines: build both in the target's further runtimes as well, where they are installed
    max_drop_points: of accuracy; an engine whose network loses more for certain gives way to a rival within it
    float_kernels: give layers that are slower in integers their float kernels, on the same grid (decision 0019)
    """

    least_equal: float = 0.999
    best_of: bool = True
    further_engines: bool = True
    float_kernels: bool = True
    max_drop_points: float | None = None
    limits: Budget = Budget()
    name: str = "build"

    takes = Form.ONNX
    gives = Form.ENGINE
    for_target = True

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        lowered = self._lowered(candidate, run)
        run, sparsity = with_sparse_kernels(run, lowered)
        path = run.folder / f"engine{run.target.engine.suffix}"
        run.target.engine.build(lowered, path, threads=run.threads)
        origin = torch_origin(candidate)
        shipped = Rival(
            INT8 if has_quantizers(origin.module()) else FLOAT, run.target.engine, path, origin,
            ((f"{candidate.stage}: ONNX", candidate.path), ("lowered ONNX", lowered)),
        )  # fmt: skip
        parity = Parity(run, self.least_equal)
        same = parity.on(run.dataset.test, shipped)
        if run.target.answers and parity.fails(same):
            noise = parity.rounding(run.dataset.test, origin)
            raise StageFailed(
                f"the engine and the torch network answer {same.clearly_unequal} of {same.inputs} test inputs clearly "
                f"differently, and {100 * self.least_equal:.1f} % equal answers are wanted"
                f"{where_they_part(candidate, run, onnx.load(lowered), engine=shipped)}. "
                f"The answers differ by {same.typical:.2g} (root mean square; size {same.scale:.2g}), those of the "
                f"torch network in float32 and in float64 by {noise:.2g}, and its integers, computed anew, are not "
                "the engine's. "
                f"The engine is kept at {path}; leave that layer out of the quantize stage, or report both files."
            )
        seen, tried, refused = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
        if run.target.answers and self.best_of and run.target.can_be_timed():  # else nothing can be chosen
            shipped, seen, tried, refused = self._fastest(shipped, candidate, run, parity)
            if shipped.path != path:
                same = parity.on(run.dataset.test, shipped)
        passed: list[dict[str, Any]] = []
        if run.target.answers:
            passed = passed_hops(shipped, run)
        facts = {
            "agreement": asdict(same), "runtime": shipped.engine.runtime, "scheme": asdict(run.target.scheme()),
            "operators": asdict(shipped.engine.operators(shipped.path)), "rivals": seen, "mixed": tried,
            "why_float": shipped.reasons(), "source": shipped.files[0][1].name, "hops": passed, "refused": refused,
            "sparsity": sparsity, "built": told_of_build(shipped.path),
        }  # fmt: skip
        return Candidate(self.name, self.gives, run.digest, shipped.path, candidate, facts)

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture | None:
        return None

    def _lowered(self, candidate: Candidate, run: Run) -> Path:
        """The ONNX file in the form that the target's integer kernels are fast at."""
        model = lowered_for(onnx.load(candidate.path), run.target.scheme())
        refused = refusals(model, rules_from_scheme(run.target.scheme())) if run.target.answers else []
        if refused:
            raise StageFailed(
                f"{run.target.engine.runtime} would not compute {candidate.path.name} as it is written: "
                f"{' · '.join(refused[:5])}"
            )
        path = run.folder / "lowered.onnx"
        with written_atomically(path) as beside:
            onnx.save(model, beside)
        return path

    def _fastest(
        self, first: Rival, candidate: Candidate, run: Run, parity: Parity
    ) -> tuple[Rival, list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        """The engine to hand over, what was seen of each, what was tried of mixes (mixed_kernels.py), what was refused.

        Nothing was seen where there is but one.
        """
        rivals, refused = rivals_of(first, float_parent(candidate), run)
        tried = list[dict[str, Any]]()
        elsewhere, left_out = in_further_engines(rivals, run) if self.further_engines else ([], [])
        if self.float_kernels:
            rivals, tried = with_mixed(rivals, run)
        rivals, also_refused = with_gpu_forms(rivals, run)
        rivals, tried, refused = [*rivals, *elsewhere], [*tried, *left_out], [*refused, *also_refused]
        if len(rivals) == 1:
            return first, [], [], refused
        validation = run.dataset.validation
        some = replace(
            validation, inputs=validation.inputs[:COMPARED], labels=validation.labels[:COMPARED],
            indices=validation.indices[:COMPARED],
        )  # fmt: skip

        def differs(rival: Rival) -> str:
            if said := over_budget(rival, run, parity, split=some, most_points=self.max_drop_points):
                return said
            # A mix is the first one's network in its runtime: it is held to what that is held to.
            for split in (run.dataset.test,) if rival.arithmetic == MIXED else (some, run.dataset.test):
                same = parity.on(split, rival)
                if parity.fails(same):
                    return (
                        f"answers {same.clearly_unequal} of {same.inputs} {split.name} inputs clearly otherwise than "
                        "the torch network"
                    )
            return ""

        times_ms = timed(rivals, run)
        beyond = over_budget(first, run, parity, split=some, most_points=self.max_drop_points)
        best, unfit = fastest(rivals, times_ms, differs=differs, over_budget=beyond)
        seen = rows(rivals, times_ms, best, unfit, run)
        if best != 0:
            run.progress.say(
                f"{self.name}: {rivals[best].words} is handed over; {first.words} is {seen[0]['why_not'] or 'as fast'}."
            )
        return rivals[best], seen, tried, refused
