"""The engines that could be handed over: made, timed in turns on the target, and the fastest of them chosen.

The first is what the recipe asks for, in the target's own runtime. Its rivals are the float network that it was
quantized from, the integer engine with some layers in float kernels (mixed_kernels.py), and both networks again in
every further runtime of the target that is installed (further_engines.py). A rival takes the place of the one before it
only where it is faster for certain and answers what its torch network answers. So an integer engine that is slower than
the float one is never handed over, and a bundle needs another package only where that pays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.candidate import Candidate
from pipeline.data.dataset import inputs_for_network
from pipeline.graph.separate_outputs import doors_named, doors_of
from pipeline.quantization.fewer_roundings import depthwise_on_floats
from pipeline.quantization.kernel_choice import LayerCost, layers_of_operators
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.stages.export import onnx_of
from pipeline.store import written_atomically
from targets.engines.elsewhere import Elsewhere
from targets.errors import EngineFailed, EngineRefused
from targets.intervals import Interval, quantile_interval
from targets.measurement import interval_as_json, nearest_rank
from targets.runner import Engine, LayerTime, Place
from targets.side_by_side import timed_in_turns

INT8, FLOAT, MIXED = "int8", "float", "mixed"
# Two fresh sessions of one engine file differ by up to 2 % for as long as they live, by where their memory happens to
# lie. No number of samples averages that out, and nobody is asked to install a package because of it.
WORTH_A_PACKAGE = 1.02


@dataclass(frozen=True)
class Rival:
    """One engine that could be handed over.

    arithmetic: int8, float, or mixed: int8 with some layers in float kernels
    origin: the torch network that it must answer like
    files: name and file of its ONNX forms; the exported one first, the one it was built from last
    kernels: the layers in float kernels, and what they cost
    unrounded: before what the network has no quantizers that the student has
    form: what tells it from another of the same arithmetic and runtime, in a word
    """

    arithmetic: str
    engine: Engine
    path: Path
    origin: Candidate
    files: tuple[tuple[str, Path], ...]
    kernels: tuple[LayerCost, ...] = ()
    unrounded: tuple[Place, ...] = ()
    form: str = ""

    @property
    def words(self) -> str:
        """Its name in a sentence."""
        form = f"{self.form} " if self.form else ""
        name = f"the {form}{'float' if self.arithmetic == FLOAT else 'INT8'} engine of {self.engine.runtime}"
        layers = f"{len(self.kernels)} layer{'s' if len(self.kernels) > 1 else ''}"
        return f"{name} with {layers} in float kernels" if self.kernels else name

    def layer_times(self, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """The median time of each operator of its engine on one batch."""
        return self.engine.layer_times(self.path, inputs, threads=threads)

    def reasons(self) -> dict[str, str]:
        """Why products of its engine are in float though they are quantized; by their names in the engine."""
        if Place.DEPTHWISE in self.unrounded:
            floats = depthwise_on_floats(onnx.load(self.files[-1][1]))
            return dict.fromkeys(floats, "it is faster on floats here, so what it reads is not quantized")
        if not self.kernels:
            return {}
        costs = {cost.layer: cost for cost in self.kernels}
        layer_of = layers_of_operators(onnx.load(self.files[-1][1]))
        found = ((row.name, costs.get(layer_of(row.name) or "")) for row in self.engine.operators(self.path).rows)
        return {name: cost.why for name, cost in found if cost is not None}


def rivals_of(first: Rival, parent: Candidate | None, run: Run) -> tuple[list[Rival], list[dict[str, Any]]]:
    """`first`, and the float network in the same runtime; and why that could not be built on a device, if it could not.

    parent: that network, which the first was quantized from, or None
    """
    rivals, refused = [first], list[dict[str, Any]]()
    if parent is not None:
        source, lowered = run.folder / "float.onnx", run.folder / "float-lowered.onnx"
        model = onnx_of(parent.module(), input_shape=run.dataset.input_shape)
        doors_named(model, doors_of(onnx.load(first.files[0][1])))
        for file, form in ((source, model), (lowered, lowered_for(model, run.target.scheme()))):
            with written_atomically(file) as beside:
                onnx.save(form, beside)
        path = run.folder / f"float{first.engine.suffix}"
        rival = Rival(FLOAT, first.engine, path, parent, (("float ONNX", source), ("lowered ONNX", lowered)))
        try:
            first.engine.build(lowered, path, threads=run.threads)
            rivals.append(rival)
        except (EngineRefused, EngineFailed) as error:
            if not isinstance(first.engine, Elsewhere):  # here the float engine is what every speed-up is over
                raise
            run.progress.say(f"{error}; it is no rival")
            refused.append(left_out(rival, str(error)))
    return rivals, refused


def left_out(rival: Rival, why: str) -> dict[str, Any]:
    """What the report tells of a rival that could not be built."""
    return {"name": rival.arithmetic, "form": rival.form, "runtime": rival.engine.runtime, "why": why}


def timed(rivals: Sequence[Rival], run: Run) -> tuple[tuple[float, ...], ...]:
    """The times of each on one validation input, in ms, taken in turns."""
    one = inputs_for_network(run.dataset, run.dataset.validation.inputs[:1])
    entries = [(rival.engine, rival.path) for rival in rivals]
    return timed_in_turns(entries, inputs=one, threads=run.threads, seed=run.seed)


def fastest(
    rivals: Sequence[Rival],
    times_ms: Sequence[tuple[float, ...]],
    *,
    differs: Callable[[Rival], str],
    over_budget: str = "",
) -> tuple[int, dict[int, str]]:
    """The place of the rival to hand over; and of those that were faster, why they are not.

    differs: says how a rival's answers differ from its torch network's, or are beyond the budget; "" where it is fit
    over_budget: why the first one is beyond the budget; then one that is within it takes its place, however slow
    """
    best, unfit = 0, {0: over_budget} if over_budget else {}
    for place in range(1, len(rivals)):
        one_package = rivals[place].engine.name in (rivals[0].engine.name, rivals[best].engine.name)
        faster = ratio_interval(times_ms[best], times_ms[place]).low > (1.0 if one_package else WORTH_A_PACKAGE)
        if not faster and best not in unfit:
            continue
        said = differs(rivals[place])
        if said:
            unfit[place] = said
        else:
            best = place
    return best, unfit


def times_as_fast(reference_ms: Sequence[float], candidate_ms: Sequence[float]) -> float:
    """How many times as fast the candidate is: the median of the rounds' ratios."""
    return nearest_rank(tuple(one / other for one, other in zip(reference_ms, candidate_ms, strict=True)), 0.5)


def ratio_interval(reference_ms: Sequence[float], candidate_ms: Sequence[float]) -> Interval:
    """Bounds of `times_as_fast`.

    What slows a whole round slows both of its calls, and leaves their ratio alone: on a busy machine the ratio of two
    medians was once known to 0.96–1.44, and that of the rounds of another sitting to 1 %.
    """
    return quantile_interval([one / other for one, other in zip(reference_ms, candidate_ms, strict=True)], 0.5)


def rows(
    rivals: Sequence[Rival], times_ms: Sequence[tuple[float, ...]], best: int, unfit: Mapping[int, str], run: Run
) -> list[dict[str, Any]]:
    """What was seen of each, for the report.

    speedup: over the float engine in the target's own runtime, or over the first where that is the float one
    kernels: the layers in float kernels of a mixed engine, with what they cost in either
    layers: the times of each operator, of the first and of the one handed over, where that is another
    """
    yardstick = next((place for place, rival in enumerate(rivals) if rival.arithmetic == FLOAT), 0)
    one = inputs_for_network(run.dataset, run.dataset.validation.inputs[:1])
    seen: list[dict[str, Any]] = []
    for place, rival in enumerate(rivals):
        seen.append({
            "name": rival.arithmetic, "form": rival.form, "runtime": rival.engine.runtime, "stage": rival.origin.stage,
            "p50_ms": nearest_rank(times_ms[place], 0.5), "shipped": place == best,
            "speedup": times_as_fast(times_ms[yardstick], times_ms[place]),
            "interval": interval_as_json(ratio_interval(times_ms[yardstick], times_ms[place])),
            "kernels": [asdict(cost) for cost in rival.kernels],
            "why_not": "" if place == best else unfit.get(place) or _slower(times_ms[best], times_ms[place]),
        })  # fmt: skip
        if best != 0 and place in (0, best):  # where the time goes in each, to see what lost
            layers = rival.layer_times(one, threads=run.threads)
            seen[-1]["layers"] = [asdict(layer) for layer in layers]
    return seen


def _slower(best_ms: Sequence[float], times_ms: Sequence[float]) -> str:
    """Why this one is not handed over, from its times beside the one that is."""
    ratio, bounds = times_as_fast(best_ms, times_ms), ratio_interval(best_ms, times_ms)
    told = f"{ratio:.2f}× as fast (interval {bounds.low:.2f} to {bounds.high:.2f})"
    return told if ratio < 1 else f"{told}, which is too little to be sure of, or to need another package for"
