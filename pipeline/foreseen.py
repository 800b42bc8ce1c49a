"""What a run may foresee of a device that was not there: the estimate of `targets/estimate.py`, from its own files.

It stands beside the verdicts and never reaches them: they are made before, from measurements alone.
"""

from collections.abc import Sequence

import onnx

from pipeline.candidate import Candidate, Form
from pipeline.graph.layer_costs import layer_costs
from pipeline.journey import StageResult
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.stages.export import onnx_of
from targets.estimate import Estimate, estimate


def foreseen(results: Sequence[StageResult], run: Run) -> Estimate | None:
    """The estimate for the run's target; None where it is here, was timed, or has no file to build from."""
    last = results[-1]
    exported = exported_form(last.candidate)
    if run.target.is_here() or last.measurement.latency is not None or exported is None:
        return None
    if run.target.profile is None:
        return estimate(None, engine=None, teacher=None)
    scheme = run.target.scheme()
    teacher = onnx_of(results[0].candidate.module(), input_shape=run.dataset.input_shape)
    return estimate(
        run.target.profile,
        engine=layer_costs(lowered_for(onnx.load(exported.path), scheme)),
        teacher=layer_costs(teacher),
    )


def exported_form(candidate: Candidate) -> Candidate | None:
    """The ONNX file behind a candidate."""
    return next((each for each in candidate.ancestry() if each.form is Form.ONNX), None)
