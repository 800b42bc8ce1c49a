"""Measure a candidate on the target, whatever its form, in the target's own runtime.

A torch candidate is exported and built for the occasion (a fake-quantized one with its integer arithmetic), an ONNX
file is built as it would be for the target; an engine is measured in the runtime it was built in, beside the teacher in
the target's own. Accuracy is on the test split. Latency is measured in pairs with the
teacher, interleaved, so that the speed-up holds on a machine whose speed drifts. Of a target that is not here there is
neither: the ONNX file that it would build from answers as it is written, and no verdict rests on that.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from pipeline.candidate import Candidate, Form
from pipeline.data.dataset import inputs_for_network
from pipeline.graph.count import parameters_and_macs
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.stages.export import onnx_of
from pipeline.store import digest_of, read_json, write_json, written_atomically
from targets.accuracy import scores_of
from targets.engines.absent import not_measured
from targets.engines.elsewhere import Afar
from targets.errors import TimesRefused
from targets.measurement import (
    Accuracy,
    Conditions,
    Latency,
    Measurement,
    Pairs,
    measurement_from_json,
    nearest_rank,
)
from targets.one_by_one import at_once
from targets.reach.conditions_there import conditions_there
from targets.reach.local import conditions_here
from targets.runner import Engine, Runner
from targets.stopwatch import count_for, sample_ms, sample_pairs_ms, settle

EVALUATED_AT_ONCE = 256  # inputs turned into float32 at a time
SAMPLING_S = 2.0  # per network; between 299 and 2 000 samples
WARMING_S = 3.0


@dataclass(frozen=True)
class Measured:
    """A measurement and the engine it was taken on."""

    measurement: Measurement
    engine: Path
    reused: bool


def measure(candidate: Candidate, run: Run, *, teacher: Path | None) -> Measured:
    """Everything about `candidate` on the run's target; kept in its folder and found again there.

    teacher: the teacher's engine, to be timed beside this one; None while the teacher itself is measured
    """
    runtime = runtime_of(candidate, run).runtime
    identity = conditions(run, runtime=runtime, samples=0, warmup_runs=0)
    identity = replace(identity, load_average=None)  # what makes two comparable
    key = digest_of(candidate.digest, identity, run.the_teacher().digest, run.metric)
    kept = run.folder / f"measurement-{key[:16]}.json"
    engine = engine_of(candidate, run, key=key)
    try:
        return Measured(measurement_from_json(read_json(kept)), engine, reused=True)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    measurement = _measure(candidate, run, engine, teacher)
    write_json(kept, measurement.as_json())
    return Measured(measurement, engine, reused=False)


def engine_of(candidate: Candidate, run: Run, *, key: str) -> Path:
    """The candidate as an engine file; built beside the candidate unless it is one."""
    if candidate.form is Form.ENGINE:
        return candidate.path
    path = run.folder / f"measured-{key[:16]}{run.target.engine.suffix}"
    if path.is_file():
        return path
    if candidate.form is Form.ONNX:
        model = onnx.load(candidate.path)
    else:
        model = onnx_of(candidate.module(), input_shape=run.dataset.input_shape)
    model = lowered_for(model, run.target.scheme())
    source = path.with_suffix(".source.onnx")
    with written_atomically(source) as beside:
        onnx.save(model, beside)
    run.target.engine.build(source, path, threads=run.threads)
    source.unlink()
    return path


def _measure(candidate: Candidate, run: Run, engine: Path, teacher: Path | None) -> Measurement:
    missing: dict[str, str] = {}
    parameters, macs = parameters_and_macs(_onnx_behind(candidate, run))
    if macs is None:
        missing["macs"] = "the graph has a shape that is not known before it runs"
    ours = runtime_of(candidate, run)
    here = run.target.is_here()
    latency: Latency | None = None
    pairs: Pairs | None = None
    with closing(ours.open(engine, threads=run.threads)) as runner:
        accuracy = _accuracy(runner, run)
        if here:
            try:
                latency, pairs = _latency(runner, run, teacher, runtime=ours.runtime)
            except TimesRefused as error:
                missing |= dict.fromkeys(("latency", "pairs"), str(error))
    if pairs is None and "pairs" not in missing:
        missing["pairs"] = "the teacher is what the others are paired with"
    one = inputs_for_network(run.dataset, run.dataset.test.inputs[:1])
    memory: int | None = None
    try:
        memory = ours.peak_memory(engine, one, threads=run.threads) if here else None
    except OSError as error:
        missing["peak_memory_bytes"] = f"no process could be started to measure it ({error})"
    except TimesRefused as error:
        missing["peak_memory_bytes"] = str(error)
    if not here:
        missing |= dict.fromkeys(("latency", "pairs", "peak_memory_bytes"), not_measured(run.target.name))
    taken = latency.conditions if latency else conditions(run, runtime=ours.runtime, samples=0, warmup_runs=0)
    return Measurement(
        conditions=taken, accuracy=accuracy, latency=latency, pairs=pairs,
        parameters=parameters, macs=macs, size_bytes=candidate.path.stat().st_size, peak_memory_bytes=memory,
        missing=missing,
    )  # fmt: skip


def _accuracy(runner: Runner, run: Run) -> Accuracy:
    split = run.dataset.test
    scores: list[float] = []
    step = at_once(runner, EVALUATED_AT_ONCE, shape=run.dataset.input_shape)
    for start in range(0, len(split), step):
        part = slice(start, start + step)
        inputs = inputs_for_network(run.dataset, split.inputs[part])
        batch = at_once(runner, 1, shape=run.dataset.input_shape)
        scores.extend(scores_of(runner, inputs, split.labels[part], metric=run.metric, batch=batch).scores)
        run.progress.advance(len(scores), len(split), "accuracy on the test split")
    return Accuracy(tuple(scores))


def runtime_of(candidate: Candidate, run: Run) -> Engine:
    """The runtime that answers for a candidate: the one an engine was built in, else the target's own."""
    return run.target.engine_of(candidate.facts.get("runtime") if candidate.form is Form.ENGINE else None)


def _latency(runner: Runner, run: Run, teacher: Path | None, *, runtime: str) -> tuple[Latency, Pairs | None]:
    one = inputs_for_network(run.dataset, run.dataset.test.inputs[:1])
    run.progress.advance(0, 1, "latency")
    if isinstance(runner, Afar):
        return _latency_afar(runner, run, teacher, one)
    ours = _call(runner, one)
    warmed, median_ms = settle(ours, max_seconds=WARMING_S)
    if teacher is None:
        count = count_for(median_ms, seconds=SAMPLING_S)
        samples = sample_ms(ours, count=count)
        return Latency(samples, conditions(run, runtime=runtime, samples=count, warmup_runs=warmed)), None
    with closing(run.target.engine.open(teacher, threads=run.threads)) as reference:
        theirs = _call(reference, one)
        _, slower_ms = settle(theirs, max_seconds=WARMING_S)
        count = count_for(max(median_ms, slower_ms), seconds=SAMPLING_S)
        before, after = sample_pairs_ms(theirs, ours, count=count, seed=run.seed)
    return Latency(after, conditions(run, runtime=runtime, samples=count, warmup_runs=warmed)), Pairs(before, after)


def _latency_afar(runner: Afar, run: Run, teacher: Path | None, one: np.ndarray) -> tuple[Latency, Pairs | None]:
    """The same on a device: in turns, in fresh processes there."""
    paths = [runner.path] if teacher is None else [runner.path, teacher]
    timed = runner.engine.times(paths, one, threads=run.threads, seed=run.seed)
    ours, *theirs = timed.samples_ms
    taken = conditions(run, runtime=runner.engine.runtime, samples=len(ours), warmup_runs=0)
    told = {**(taken.device or {}), **timed.state, "processes": timed.processes}
    if timed.compute_ms[0]:
        told |= {f"compute_p{q}_ms": nearest_rank(timed.compute_ms[0], q / 100) for q in (50, 99)}
    taken = replace(taken, device=told, unstable=timed.unstable)
    return Latency(ours, taken), Pairs(theirs[0], ours) if theirs else None


def conditions(run: Run, *, runtime: str, samples: int, warmup_runs: int) -> Conditions:
    """The conditions of a measurement that this run takes now, batch 1."""
    if run.target.device is not None:
        return conditions_there(
            run.target.device.facts(), target=run.target.name, runtime=runtime, threads=run.threads, batch=1,
            warmup_runs=warmup_runs, samples=samples,
        )  # fmt: skip
    return conditions_here(
        target=run.target.name, runtime=runtime, threads=run.threads, batch=1,
        warmup_runs=warmup_runs, samples=samples, on_target=run.target.is_here(),
    )  # fmt: skip


def _call(runner: Runner, inputs: np.ndarray) -> Callable[[], object]:
    return lambda: runner(inputs)


def _onnx_behind(candidate: Candidate, run: Run) -> onnx.ModelProto:
    """The candidate as ONNX, to count operations on; for an engine, the file it was built from."""
    for ancestor in candidate.ancestry():
        if ancestor.form is Form.ONNX:
            return onnx.load(ancestor.path)
        if ancestor.form is Form.TORCH:
            return onnx_of(ancestor.module(), input_shape=run.dataset.input_shape)
    raise TypeError("a candidate without a torch or ONNX ancestor")
