"""The INT8 engine with some layers in float kernels, where their integer kernels are the slower ones on this processor.

Which kernel a layer has is no matter of the student: weights, ranges and answers stay (float_kernels.py). The layers
are chosen by the clock. Where the operators of the INT8 engine and of the float engine say that there is something to
gain, an engine with every layer in its float kernel tells what each costs with its conversions; sets of several sizes
are built and timed in turns, and the fastest of them becomes a rival of the two engines that it is made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from pipeline.data.dataset import inputs_for_network
from pipeline.quantization.float_kernels import quantized_products, with_float_kernels
from pipeline.quantization.kernel_choice import layer_costs, sets_by_gain
from pipeline.stage import Run
from pipeline.stages.rivals import FLOAT, INT8, MIXED, Rival, ratio_interval, times_as_fast
from targets.engines.gpu_forms import on_gpu
from targets.errors import EngineRefused
from targets.side_by_side import timed_in_turns

LEAST_GAIN = 0.02  # of the INT8 engine's time: two sessions of one engine differ by as much (rivals.py)
SETS = 4  # that are built and timed
ROUNDS = 30  # to choose among them; whether the choice is handed over is decided by many more
WARMING_S = 0.3


def with_mixed(rivals: Sequence[Rival], run: Run) -> tuple[list[Rival], list[dict[str, Any]]]:
    """The rivals, INT8 and float in the target's own runtime, and behind them a mix that may be faster.

    Also what was tried, for the report.
    """
    if [each.arithmetic for each in rivals] != [INT8, FLOAT] or on_gpu(rivals[0].engine):  # these are a processor's
        return list(rivals), []
    integer, floating = rivals
    try:
        mixed, tried = _mixed(integer, floating, run)
    except EngineRefused as error:  # no reason to lose the engines that were built
        run.progress.say(f"{error}; no layer of {integer.words} gets a float kernel")
        return list(rivals), []
    return [integer, floating, *([mixed] if mixed is not None else [])], [tried] if tried else []


def _mixed(integer: Rival, floating: Rival, run: Run) -> tuple[Rival | None, dict[str, Any]]:
    """The fastest mix, unless an engine is faster for certain; and what was tried, where there was something to try."""
    model, one = onnx.load(integer.files[-1][1]), inputs_for_network(run.dataset, run.dataset.validation.inputs[:1])
    int8_times = integer.layer_times(one, threads=run.threads)
    own = layer_costs(
        model, int8_times, onnx.load(floating.files[-1][1]), floating.layer_times(one, threads=run.threads)
    )
    saved_ms = sum(max(cost.integer_ms - cost.float_ms, 0.0) for cost in own)
    if saved_ms <= LEAST_GAIN * sum(row.median_ms for row in int8_times):
        return None, {}
    with TemporaryDirectory(dir=run.folder) as folder:
        bench = _Bench(integer, model, Path(folder), run)
        every = bench.mix(quantized_products(model))
        costs = layer_costs(
            model, int8_times, onnx.load(every.files[-1][1]), every.layer_times(one, threads=run.threads)
        )
        mixes = [
            replace(bench.mix([cost.layer for cost in chosen]), kernels=chosen)
            for chosen in sets_by_gain(costs, most=SETS)
        ]
        if not mixes:
            return None, {}
        int8_ms, float_ms, *mixes_ms = timed_in_turns(
            [(each.engine, each.path) for each in (integer, floating, *mixes)], inputs=one, threads=run.threads,
            seed=run.seed, rounds=ROUNDS, warming_s=WARMING_S,
        )  # fmt: skip
        ratios = [times_as_fast(int8_ms, each) for each in mixes_ms]
        best = max(range(len(mixes)), key=ratios.__getitem__)
        told = {
            "runtime": integer.engine.runtime,
            "slower_in_integers": [cost.layer for cost in own if cost.is_slower],
            "tried": [
                {"layers": len(mix.kernels), "times_as_fast": ratio} for mix, ratio in zip(mixes, ratios, strict=True)
            ],
        }  # fmt: skip
        if any(ratio_interval(each, mixes_ms[best]).high < 1 for each in (int8_ms, float_ms)):
            return None, told
        return _kept(mixes[best], run), told


@dataclass(frozen=True)
class _Bench:
    """Where mixes of one INT8 engine are built. model: what that was built from"""

    integer: Rival
    model: onnx.ModelProto
    folder: Path
    run: Run

    def mix(self, layers: Sequence[str]) -> Rival:
        """The INT8 engine with these layers in float kernels."""
        file = self.folder / f"{len(layers)}.onnx"
        onnx.save(with_float_kernels(self.model, layers), file)
        engine = self.integer.engine
        path = file.with_suffix(engine.suffix)
        engine.build(file, path, threads=self.run.threads)
        return Rival(MIXED, engine, path, self.integer.origin, (*self.integer.files, ("float kernels", file)))


def _kept(mix: Rival, run: Run) -> Rival:
    """The mix with its files where those of the other rivals lie."""
    path = mix.path.replace(run.folder / f"mixed{mix.engine.suffix}")
    name, file = mix.files[-1]
    file = file.replace(run.folder / f"mixed-{mix.engine.name}.onnx")
    return replace(mix, path=path, files=(*mix.files[:-1], (name, file)))
