"""Further forms of the same networks for a GPU that was reached as a device (targets/engines/gpu_forms.py).

TensorRT 10.x builds an integer network in two ways: weakly typed, where what is between the integers runs in FP16 if
the builder finds that faster, and strongly typed from a file whose floats are float16. ONNX Runtime on CUDA runs a
float network in float32 or in float16. Which is faster is not known before they are timed, so each is a rival; one
that the device refuses is told of, and the engines that were built stay.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.two_in_four import structure_of
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.stage import Run
from pipeline.stages.rivals import FLOAT, INT8, Rival, left_out
from pipeline.store import written_atomically
from targets.engines.gpu_forms import is_cuda, on_gpu, sparse_kernels, typed_strongly
from targets.errors import EngineFailed, EngineRefused
from targets.schemes import TENSORRT_FLOAT16

STRONG, HALF = "strongly typed", "float16"


def with_gpu_forms(rivals: Sequence[Rival], run: Run) -> tuple[list[Rival], list[dict[str, Any]]]:
    """The rivals and behind them these forms, built; and of those that could not be, why, for the report."""
    found, refused = list(rivals), list[dict[str, Any]]()
    for form in _forms(rivals, run):
        try:
            _halved(form)
            form.engine.build(form.files[-1][1], form.path, threads=run.threads)
        except (EngineRefused, EngineFailed) as error:
            run.progress.say(f"{error}; it is no rival")
            refused.append(left_out(form, str(error)))
            continue
        found.append(form)
    return found, refused


def with_sparse_kernels(run: Run, lowered: Path) -> tuple[Run, dict[str, Any]]:
    """The run whose builder may use 2:4 sparse kernels, where most weights have that structure; and what was seen."""
    if not on_gpu(run.target.engine):
        return run, {}
    seen = structure_of(onnx.load(lowered))
    engine = sparse_kernels(run.target.engine) if seen.in_most else None
    told = {"products": seen.products, "structured": seen.structured, "asked_for": engine is not None}
    return (run if engine is None else replace(run, target=replace(run.target, engine=engine))), told


def _forms(rivals: Sequence[Rival], run: Run) -> list[Rival]:
    """The further forms, of which neither file nor engine is written yet."""
    forms = []
    for rival in rivals:
        strong = typed_strongly(rival.engine) if rival.arithmetic == INT8 else None
        if strong is not None and run.target.scheme().float_bits == 32:
            forms.append(_form(rival, STRONG, run, engine=strong))
        if rival.arithmetic == FLOAT and is_cuda(rival.engine):
            forms.append(_form(rival, HALF, run, engine=rival.engine))
    return forms


def _form(rival: Rival, form: str, run: Run, *, engine: Any) -> Rival:
    stem = f"{rival.arithmetic}-{form.replace(' ', '-')}"
    files = (rival.files[0], ("lowered ONNX, float16", run.folder / f"{stem}.onnx"))
    return replace(rival, form=form, engine=engine, path=run.folder / f"{stem}{engine.suffix}", files=files)


def _halved(rival: Rival) -> None:
    """Write the file with its floats in float16.

    Raises:
        EngineRefused: half precision would change the network without a word.
    """
    model = lowered_for(onnx.load(rival.files[0][1]), TENSORRT_FLOAT16)
    refused = refusals(model, rules_from_scheme(TENSORRT_FLOAT16)) if rival.arithmetic == INT8 else []
    if refused:
        raise EngineRefused(f"{rival.words} would not compute {rival.files[0][1].name}: {' · '.join(refused[:3])}")
    with written_atomically(rival.files[-1][1]) as beside:
        onnx.save(model, beside)
