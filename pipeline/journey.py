"""What a run came to: a row per stage, the run's own verdicts, and the exit code.

The JSON form is the program's `--json` output. Schema 1:

    schema 1 · target, recipe, seed · bundle: folder, or null with `stopped` saying why
    exit_code: 0 met, 1 missed, 3 undecided
    stages: name, form, reused, seconds, metric (what `accuracy` is: accuracy, or the fidelity of answers that name no
            class), accuracy (0..1), accuracy_n, parameters, macs, size_bytes, latency_p50_ms, latency_p99_ms,
            peak_memory_bytes, verdicts, reasons (what was not measured → why; "latency" explains both of its fields,
            "pairs" a speed-up that is null)
    engine: runtime, integer_ops, float_ops; null where the run stopped before there was one
    speedup: teacher p50 / engine p50, from interleaved pairs · accuracy_drop_points: 100 · (teacher − engine); both of
            the last row, and null where its `reasons` say why
    verdicts: limit (its name), bound, measured, interval [low, high] (null: unbounded), verdict, why, origin
    estimate: label, board, engine_ms, teacher_ms and speedup (low, high; or null), missing (why they are null, or ""),
            assumptions; null where the target is here. No verdict rests on it
"""

from dataclasses import dataclass
from typing import Any

from pipeline.candidate import Candidate
from pipeline.stage import Metric
from targets.estimate import Estimate
from targets.measurement import Measurement
from targets.verdict import Verdict, overall_exit_code

SCHEMA = 1
ACCURACY = "accuracy"


def metric_name(metric: Metric) -> str:
    """What the mean score is called: "accuracy", unless the metric has a title of its own."""
    return str(getattr(metric, "title", ACCURACY))


@dataclass(frozen=True)
class StageResult:
    """One row: the candidate, how it was come by, what was measured, and the verdicts on the stage's own limits.

    metric: what the mean score is called
    """

    candidate: Candidate
    reused: bool
    seconds: float
    measurement: Measurement
    verdicts: tuple[Verdict, ...] = ()
    metric: str = ACCURACY

    def as_json(self) -> dict[str, Any]:
        """The row of the `--json` output."""
        measured = self.measurement
        return {
            "name": self.candidate.stage,
            "form": self.candidate.form.value,
            "reused": self.reused,
            "seconds": round(self.seconds, 3),
            "metric": self.metric,
            "accuracy": None if measured.accuracy is None else measured.accuracy.value,
            "accuracy_n": None if measured.accuracy is None else measured.accuracy.n,
            "parameters": measured.parameters,
            "macs": measured.macs,
            "size_bytes": measured.size_bytes,
            "latency_p50_ms": None if measured.latency is None else measured.latency.p50_ms,
            "latency_p99_ms": None if measured.latency is None else measured.latency.p99_ms,
            "peak_memory_bytes": measured.peak_memory_bytes,
            "reasons": dict(measured.missing),
            "verdicts": [verdict.as_json() for verdict in self.verdicts],
        }


@dataclass(frozen=True)
class Journey:
    """All rows, from the teacher to where the run ended.

    verdicts: on the run's budget, by the last row · stopped: why the run ended before its last stage, or None
    estimate: what the device may take, where it is not here; no verdict rests on it
    """

    results: tuple[StageResult, ...]
    verdicts: tuple[Verdict, ...]
    stopped: str | None = None
    estimate: Estimate | None = None

    @property
    def teacher(self) -> StageResult:
        """The first row."""
        return self.results[0]

    @property
    def last(self) -> StageResult:
        """The last row: the engine, unless the run stopped."""
        return self.results[-1]

    @property
    def exit_code(self) -> int:
        """0 every budget met · 1 one missed · 3 one undecided; limits of stages count like those of the run."""
        every = [verdict for result in self.results for verdict in result.verdicts]
        return overall_exit_code([*every, *self.verdicts])

    @property
    def speedup(self) -> float | None:
        """Teacher p50 over last p50, from interleaved pairs."""
        pairs = self.last.measurement.pairs
        return None if pairs is None else pairs.speedup

    @property
    def accuracy_drop_points(self) -> float | None:
        """100 · (accuracy of the teacher − accuracy of the last row)."""
        before, after = self.teacher.measurement.accuracy, self.last.measurement.accuracy
        return None if before is None or after is None else 100 * (before.value - after.value)

    def engine_as_json(self) -> dict[str, Any] | None:
        """What the engine is made of; None when the run stopped before there was one."""
        operators = self.last.candidate.facts.get("operators")
        if operators is None:
            return None
        return {
            "runtime": self.last.candidate.facts["runtime"],
            "integer_ops": operators["integer"],
            "float_ops": operators["floating"],
        }

    def as_json(self, *, target: str, recipe: str, seed: int, bundle: str | None) -> dict[str, Any]:
        """The `--json` output."""
        return {
            "schema": SCHEMA,
            "target": target,
            "recipe": recipe,
            "seed": seed,
            "bundle": bundle,
            "exit_code": self.exit_code,
            "stopped": self.stopped,
            "stages": [result.as_json() for result in self.results],
            "engine": self.engine_as_json(),
            "speedup": self.speedup,
            "accuracy_drop_points": self.accuracy_drop_points,
            "verdicts": [verdict.as_json() for verdict in self.verdicts],
            "estimate": None if self.estimate is None else self.estimate.as_json(),
        }
