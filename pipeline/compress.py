"""The loop: stage → candidate → measure → verdict → record.

Every process of a run goes through it in step. Process 0 measures, judges and writes; the others train with it and
wait.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.bundle import write_bundle
from pipeline.candidate import Candidate, Form
from pipeline.data.dataset import Dataset, checked
from pipeline.errors import DataMissing
from pipeline.foreseen import foreseen
from pipeline.journey import Journey, StageResult, metric_name
from pipeline.measure import measure
from pipeline.models.checkpoint import state_from_file
from pipeline.once import Done, Step, done_once
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.stage import Run, Stage
from pipeline.stages.teach import teach
from pipeline.store import Store, file_digest
from pipeline.workers import Workers
from targets.engines.absent import not_measured
from targets.measurement import Accuracy, Measurement
from targets.verdict import Outcome, Verdict, verdicts_on


@dataclass(frozen=True)
class Yardstick:
    """What later rows are compared with: the teacher's accuracy, input by input, and its engine."""

    accuracy: Accuracy | None
    engine: Path


# The row of a process that follows: the same fields, and the reason why they are empty.
MEASURED_ELSEWHERE = Measurement(
    missing=dict.fromkeys(
        ("accuracy", "latency", "pairs", "parameters", "macs", "size_bytes", "peak_memory_bytes"),
        "measured by process 0",
    )
)


def compress(plan: Plan, *, workers: Workers, progress: Progress) -> Journey:
    """Run the plan; what an earlier run has finished is reused. The bundle lies in `plan.bundle` afterwards."""
    if not plan.target.is_here():
        progress.say(f"{not_measured(plan.target.name)}; all that can be done without it is done")
    store = Store(plan.work)
    weights = weights_of(plan, workers)
    run = run_for(plan, weights, load_data(plan, workers, progress), workers, progress)

    run, first, yardstick = start_with_teacher(plan, weights.get("teacher"), run, store)
    results, candidate, stopped = [first], first.candidate, None
    student = file_digest(weights["student"]) if "student" in weights else None

    for stage in plan.recipe.stages:
        digest = plan.stage_digest(stage, candidate, run, student_weights=student)
        here = replace(run, folder=store.place(stage.name, digest), digest=digest)
        progress.begin(stage.name)
        done = done_once(step_of(stage, candidate, here), here, store)
        result = measured(done, here, stage, yardstick)
        results.append(result)
        candidate = done.candidate
        stopped = workers.from_leader(out_of_reach(plan, result, yardstick))
        if stopped is not None:
            break

    judged = judged_by_budget(plan, results[-1].measurement, yardstick) if workers.leads else ()
    estimate = foreseen(results, run) if workers.leads else None
    journey = Journey(tuple(results), judged, stopped, estimate)
    if workers.leads and stopped is None:
        progress.begin("bundle")
        write_bundle(plan, journey, dataset=run.dataset)
    workers.wait()
    return journey


def weights_of(plan: Plan, workers: Workers) -> dict[str, Path]:
    """The files of weights that the recipe names.

    Raises:
        DataMissing: with everything that is missing, the data too, so that nobody finds out in two rounds.
    """
    try:
        return plan.weights()
    except DataMissing as lacking:
        if workers.leads:
            with TemporaryDirectory() as cache:  # nothing is left of a run that cannot be
                try:
                    plan.recipe.data(plan.data, cache=Path(cache))
                except DataMissing as more:
                    raise DataMissing(f"{lacking} And {more}") from more
        raise


def load_data(plan: Plan, workers: Workers, progress: Progress) -> Dataset:
    """The recipe's data, checked; process 0 reads first, so that what it keeps is there for the others."""
    if not workers.leads:
        workers.wait()
    progress.begin("data")
    dataset = checked(plan.recipe.data(plan.data, cache=plan.work / "data"))
    if workers.leads:
        workers.wait()
        for skipped in dataset.skipped:
            progress.say(f"skipped {skipped}")
    return dataset


def run_for(plan: Plan, weights: dict[str, Path], dataset: Dataset, workers: Workers, progress: Progress) -> Run:
    """What all stages share, before there is a teacher."""
    return Run(
        target=plan.target, dataset=dataset, teacher=None,
        student=plan.recipe.student.factory if plan.recipe.student else None,
        student_weights=state_from_file(weights["student"]) if "student" in weights else None,
        metric=plan.recipe.metric, folder=plan.work, digest="", shared=plan.work / "answers", seed=plan.seed,
        threads=plan.threads, epochs_scale=plan.epochs_scale, workers=workers, progress=progress,
    )  # fmt: skip


def start_with_teacher(plan: Plan, weights: Path | None, run: Run, store: Store) -> tuple[Run, StageResult, Yardstick]:
    """Make or read the teacher and measure it; the run then has a teacher."""
    digest = plan.teacher_digest(data=run.dataset.digest, weights=weights)
    here = replace(run, folder=store.place("teacher", digest), digest=digest)
    work = partial(_taught, plan, weights)
    run.progress.begin("teacher")
    done = done_once(Step("teacher", Form.TORCH, None, work, lambda _facts: plan.recipe.teacher.factory), here, store)
    here = replace(here, teacher=done.candidate)
    result = measured(done, here, None, None)
    engine = here.folder  # followers never open it
    if run.workers.leads:
        engine = measure(done.candidate, here, teacher=None).engine
    return replace(run, teacher=done.candidate), result, Yardstick(result.measurement.accuracy, engine)


def _taught(plan: Plan, weights: Path | None, run: Run) -> Candidate:
    return teach(plan.recipe.teacher, weights=weights, run=run)


def step_of(stage: Stage, candidate: Candidate, run: Run) -> Step:
    """`stage` bound to its input."""
    return Step(
        stage.name, stage.gives, candidate, partial(stage, candidate),
        lambda facts: stage.architecture(candidate, run, facts),
    )  # fmt: skip


def measured(done: Done, run: Run, stage: Stage | None, yardstick: Yardstick | None) -> StageResult:
    """The row of a candidate: measured, and held against the limits of its stage."""
    if not run.workers.leads:
        return StageResult(done.candidate, done.reused, done.seconds, MEASURED_ELSEWHERE)
    measurement = measure(done.candidate, run, teacher=yardstick.engine if yardstick else None).measurement
    judged: tuple[Verdict, ...] = ()
    if stage is not None and yardstick is not None:
        judged = verdicts_on(measurement, budget=stage.limits, teacher=yardstick.accuracy)
    result = StageResult(done.candidate, done.reused, done.seconds, measurement, judged, metric_name(run.metric))
    run.progress.finish(result.as_json())
    return result


def judged_by_budget(plan: Plan, measurement: Measurement, yardstick: Yardstick) -> tuple[Verdict, ...]:
    """The verdicts of the whole run's budget."""
    return verdicts_on(measurement, budget=plan.budget, teacher=yardstick.accuracy)


def out_of_reach(plan: Plan, result: StageResult, yardstick: Yardstick) -> str | None:
    """Why going on is no use, or None: accuracy that is lost for certain does not come back in a later stage."""
    if result.measurement.accuracy is None:
        return None
    for verdict in (*result.verdicts, *judged_by_budget(plan, result.measurement, yardstick)):
        if verdict.limit == "max_accuracy_drop_points" and verdict.outcome is Outcome.MISSED:
            return (
                f"after stage '{result.candidate.stage}' the {result.metric} is {verdict.measured:.2f} points below "
                f"the teacher's and the limit is {verdict.bound:g} ({verdict.origin}): out of reach, nothing later "
                "was run."
            )
    return None
