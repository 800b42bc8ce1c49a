"""A gate from two bundles: what is exact first, then what must be sampled."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.gate.accuracy_drop import accuracy_line
from pipeline.gate.further_lines import memory_line, sampled_lines, size_line
from pipeline.gate.gate import Limits, Sampled, latency_line, log_ratio_of, sampled_until_decided
from pipeline.gate.gate_there import blocks_of, conditions_of, lines_there, remarks_there
from pipeline.gate.instructions_line import instructions_line
from pipeline.gate.outcome import Finding, Gate, Line
from pipeline.gate.pair import Pair, Side
from pipeline.gate.unmeasured import unmeasured_line, unmeasured_lines, why_not_timed
from pipeline.progress import Progress, Quiet
from targets.engines.elsewhere import TENSORRT
from targets.engines.fresh_processes import FreshProcesses, pace_for
from targets.engines.instructions import instructions_of, witness_here
from targets.paired_ratio import Looks, estimate_from, smallest_seen

COUNTED_HERE = "not counted: that is done on the machine of this command alone. Leave --instructions out."


@dataclass(frozen=True)
class Settings:
    """What the command line says. evaluation: inputs and labels for the accuracy, or None."""

    limits: Limits
    max_seconds: float = 60.0
    seed: int = 0
    evaluation: Path | None = None
    looks: Looks = field(default_factory=Looks)


def run_gate(pair: Pair, settings: Settings, *, progress: Progress | None = None) -> Gate:
    """Everything that was asked for, measured and judged.

    Raises:
        TargetsError: an engine fails. PipelineError: the evaluation inputs do not fit.
    """
    shown = progress or Quiet()
    looks, limits, seed = settings.looks, settings.limits, settings.seed
    exact = [size_line(pair, limit=limits.size)]
    exact.append(
        accuracy_line(pair, limit=limits.accuracy_points, evaluation=settings.evaluation, error_rate=looks.error_rate)
    )
    if limits.instructions is not None and (pair.target.device is not None or not pair.target.is_here()):
        exact.append(unmeasured_line("instructions", "instructions", limits.instructions, COUNTED_HERE))
    why = why_not_timed(pair.target)
    if why:
        return gate_from(pair, Sampled("wall_ms"), (*unmeasured_lines(limits, why), *exact), settings)
    exact.append(memory_line(pair, limit=limits.memory, error_rate=looks.error_rate))
    if pair.target.device is not None:
        return _gate_there(pair, exact, settings, progress=shown)
    if limits.instructions is not None:
        exact.append(counted_line(pair, limits.instructions))
    measure = FreshProcesses(
        ((pair.baseline.path, pair.baseline.runtime), (pair.candidate.path, pair.candidate.runtime)),
        pair.inputs, pair.threads, pace_for(max(side.call_ms for side in pair.sides)),
    )  # fmt: skip

    def judge(found: Sampled, error_rate: float) -> tuple[Line, ...]:
        latency = latency_line(found, limit=limits.latency, error_rate=error_rate)
        return sampled_lines(found, limits, latency, error_rate=error_rate, seed=seed)

    clock = "cpu_ms" if pair.threads == 1 else "wall_ms"
    found, sampled = sampled_until_decided(
        measure, judge, clock=clock, max_seconds=settings.max_seconds, looks=looks, seed=seed, progress=shown
    )
    return gate_from(pair, found, (*sampled, *exact), settings)


def counted_line(pair: Pair, limit: float) -> Line:
    """Instructions per answer of both engines, by the witness that this machine has.

    Raises:
        EngineMissing: it has none; the message says what to install.
    """
    witness = witness_here()
    baseline, candidate = (
        instructions_of(side.path, pair.inputs, threads=pair.threads, runtime=side.runtime, witness=witness)
        for side in pair.sides
    )
    return instructions_line(baseline, candidate, limit=limit)


def _gate_there(pair: Pair, exact: list[Line], settings: Settings, *, progress: Progress) -> Gate:
    """The same on a device, in blocks; where it does not stay as it is nothing is decided by time."""
    looks, limits, seed, blocks = settings.looks, settings.limits, settings.seed, blocks_of(pair)

    def judge(found: Sampled, error_rate: float) -> tuple[Line, ...]:
        return lines_there(blocks, found, limits, error_rate=error_rate, seed=seed)

    found, sampled = sampled_until_decided(
        blocks, judge, clock="wall_ms", max_seconds=settings.max_seconds, looks=looks, seed=seed, progress=progress,
        waiting=blocks.waiting,
    )  # fmt: skip
    lines = sampled or unmeasured_lines(replace(limits, memory=None), found.stopped)
    gate = gate_from(pair, found, (*lines, *exact), settings)
    device = {**(gate.conditions["device"] or {}), **blocks.state()}
    remarks = (*gate.remarks, *remarks_there(blocks, found, looks=looks))
    return replace(gate, conditions={**gate.conditions, "device": device}, remarks=remarks)


def gate_from(pair: Pair, found: Sampled, lines: tuple[Line, ...], settings: Settings) -> Gate:
    """Lines and samples, put together."""
    logs = found.log_ratios
    runtimes = " and ".join(dict.fromkeys(runtime_of(pair, side) for side in pair.sides))
    spent = settings.looks.spent(max(0, found.looks - 1))
    return Gate(
        baseline=pair.baseline.name, candidate=pair.candidate.name, target=pair.target.name,
        device=pair.target.device.address if pair.target.device is not None else None, lines=lines,
        process_ratios=tuple(map(math.exp, logs)), baseline_ms=tuple(found.milliseconds(0)),
        candidate_ms=tuple(found.milliseconds(1)), turns=found.turns, seconds=found.seconds, looks=found.looks,
        looks_planned=len(settings.looks.at), error_rate=settings.looks.error_rate,
        smallest_seen=smallest_seen(logs, limit=settings.limits.latency, error_rate=spent) if logs else None,
        conditions=conditions_of(pair, runtime=runtimes, samples=len(found.milliseconds(0))),
        remarks=remarks_on(pair, found),
    )  # fmt: skip


def only_numbers(baseline: Path, candidate: Path, limits: Limits, why: str) -> Gate:
    """The gate on a baseline of which only a measurement was kept: undecided, whatever the numbers are."""
    latency = Line("latency", "ms", None, None, "ratio", None, None, None, limits.latency, Finding.UNDECIDED, why)
    return Gate(str(baseline), str(candidate), "unknown", None, (latency,))


def remarks_on(pair: Pair, found: Sampled) -> tuple[str, ...]:
    """What the reader must know."""
    told = list(pair.remarks)
    if pair.baseline.path.read_bytes() == pair.candidate.path.read_bytes():
        told.append("Both engine files are the same, byte by byte: the change did not reach the engine.")
    if pair.threads > 1 and all(side.runtime != TENSORRT for side in pair.sides):
        told.append(
            f"Both engines ran with {pair.threads} threads: two that are open slow each other down, which costs "
            "precision. With --threads 1 less is undecided."
        )
    if found.clock == "cpu_ms" and found.processes:
        by_day = estimate_from([log_ratio_of(each, "wall_ms") for each in found.processes], error_rate=0.01)
        apart = 100 * (by_day.interval.low / found.estimate(0.01).ratio - 1)
        if apart > 1:
            told.append(
                f"By the time of day the candidate does {apart:.1f} % worse than by processor time: it waits for "
                "something. See the line p50."
            )
    return tuple(told)


def runtime_of(pair: Pair, side: Side) -> str:
    """As it is here or there; as the bundle says where nobody was asked."""
    return side.engine.runtime if pair.target.is_here() else str(side.manifest["engine"]["runtime"])
