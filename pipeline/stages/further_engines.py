"""The same networks in the target's further runtimes, where these are installed.

The integer one goes there without the quantizers that the runtime has no use for (fewer_roundings.py), and without
those that it is faster without: each kind of these is left out on trial, and stays out if the engine is faster for
certain. Weights and ranges are the student's, and so are biases that were trained (biases_anew.py). What the engine
must answer like is the torch network that has none of these quantizers either.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import onnx

from pipeline.data.dataset import inputs_for_network
from pipeline.quantization.fewer_roundings import dropped_places, without_places, without_points
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.stages.biases_anew import with_biases_anew
from pipeline.stages.rivals import INT8, Rival, ratio_interval, times_as_fast
from pipeline.store import written_atomically
from targets.errors import EngineRefused
from targets.runner import Place
from targets.side_by_side import timed_in_turns

ROUNDS = 40  # to choose among forms; whether one is handed over is decided by many more
WARMING_S = 0.3


def in_further_engines(rivals: Sequence[Rival], run: Run) -> tuple[list[Rival], list[dict[str, Any]]]:
    """These rivals in every further runtime; and what was left out on trial, for the report."""
    found: list[Rival] = []
    tried: list[dict[str, Any]] = []
    for engine in run.target.further_engines_here():
        for rival in rivals:
            path = run.folder / f"{rival.arithmetic}{engine.suffix}"
            other = replace(rival, engine=engine, path=path)
            try:
                if rival.arithmetic == INT8:
                    other, told = _with_fewest(other, run)
                    tried += told
                else:
                    _build(other, run)
            except EngineRefused as error:  # another runtime need not take what ours does
                run.progress.say(f"{error}; it is no rival")
                continue
            found.append(other)
    return found, tried


def without_quantizers(rival: Rival, kinds: Sequence[Place], run: Run) -> Rival:
    """The rival without the quantizers of these kinds: its files and its torch network, not yet its engine.

    The same rival where the network has none of them.
    """
    canonical = onnx.load(rival.files[0][1])
    architecture = rival.origin.architecture
    found = dropped_places(canonical, architecture(), kinds) if architecture is not None else {}
    if architecture is None or not found:
        return rival
    places = sorted(place for each in found.values() for place in each)
    short = "-".join(kind.name.lower() for kind in found)
    source, lowered = (run.folder / f"without-{short}{ending}.onnx" for ending in ("", "-lowered"))
    model = without_places(canonical, places)
    for file, form in ((source, model), (lowered, lowered_for(model, run.target.scheme()))):
        with written_atomically(file) as beside:
            onnx.save(form, beside)
    what = f"unrounded before {' and '.join(kind.value for kind in found)}"
    origin = replace(
        rival.origin, stage=f"{rival.origin.stage}, {what}", digest=f"{rival.origin.digest}-{short}",
        parent=rival.origin, architecture=without_points(architecture, places),
    )  # fmt: skip
    files = ((f"ONNX, {what}", source), ("lowered ONNX", lowered))
    return replace(rival, origin=origin, files=files, unrounded=tuple(found))


def _with_fewest(rival: Rival, run: Run) -> tuple[Rival, list[dict[str, Any]]]:
    """The integer rival in another runtime, built, without what that does without; and what was left out on trial."""
    best = _build(without_quantizers(rival, rival.engine.joined, run), run)
    trials: list[dict[str, Any]] = []
    for kind in rival.engine.optional:
        other = without_quantizers(rival, (*rival.engine.joined, *best.unrounded, kind), run)
        if kind not in other.unrounded:
            continue
        path = rival.path.with_name(f"without-{kind.name.lower()}{rival.engine.suffix}")
        other = _build(replace(other, path=path), run)
        best_ms, other_ms = _timed(best, other, run)
        faster = ratio_interval(best_ms, other_ms).low > 1
        trials.append({"before": kind.value, "times_as_fast": times_as_fast(best_ms, other_ms), "kept": faster})
        if faster:
            best = other
        else:
            other.path.unlink()
    if best.path != rival.path:
        best = replace(best, path=best.path.replace(rival.path))
    anew = with_biases_anew(best, run)
    if anew is not best:
        best = _build(anew, run)
    return best, [{"runtime": rival.engine.runtime, "left_out": trials}] if trials else []


def _build(rival: Rival, run: Run) -> Rival:
    rival.engine.build(rival.files[-1][1], rival.path, threads=run.threads)
    return rival


def _timed(one: Rival, other: Rival, run: Run) -> tuple[tuple[float, ...], ...]:
    first = inputs_for_network(run.dataset, run.dataset.validation.inputs[:1])
    return timed_in_turns(
        [(each.engine, each.path) for each in (one, other)], inputs=first, threads=run.threads, seed=run.seed,
        rounds=ROUNDS, warming_s=WARMING_S,
    )  # fmt: skip
