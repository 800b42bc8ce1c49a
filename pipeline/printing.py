"""The result as plain text for standard output."""

from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError
from pipeline.journey import Journey
from pipeline.plan import Plan
from pipeline.progress import cells
from pipeline.report_estimate import estimate_text
from pipeline.store import settings_of
from targets.engines.absent import is_unbuilt

SIGNS = {"met": "✓ met", "missed": "✗ missed", "undecided": "? undecided"}


@dataclass(frozen=True)
class DryRun:
    """What a run would do, as text and as JSON data."""

    text: str
    as_json: dict[str, Any]


def table(rows: list[list[str]]) -> str:
    """Rows as aligned columns; the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )


def result_text(journey: Journey, bundle: str | None) -> str:
    """A table of the stages, a line per verdict, and where the bundle is."""
    rows = [cells(result.as_json()) for result in journey.results]
    text = table([["stage", *list(rows[0])[1:]], *(list(row.values()) for row in rows)])
    if journey.speedup is not None:
        text += f"\nspeed-up {journey.speedup:.2f}× over the FP32 teacher in the same runtime\n"
    engine = journey.engine_as_json()
    if engine is not None:
        integer, every = engine["integer_ops"], engine["integer_ops"] + engine["float_ops"]
        how = "quantized" if is_unbuilt(engine["runtime"]) else "in integers"
        text += f"engine: {engine['runtime']}, {integer} of {every} convolutions and matrix products {how}\n"
    text += "\n"
    told = [(result.candidate.stage, verdict) for result in journey.results for verdict in result.verdicts]
    for stage, verdict in [*told, *(("", verdict) for verdict in journey.verdicts)]:
        of_stage = f"{stage}: " if stage else ""
        text += f"{SIGNS[verdict.outcome.value]}: {of_stage}{verdict.limit} {verdict.bound:g} ({verdict.origin}): "
        text += f"{verdict.why}\n"
    if journey.estimate is not None:
        text += f"\n{estimate_text(journey.estimate.as_json())}"
    if journey.stopped:
        text += f"\nstopped: {journey.stopped}\n"
    return text + (f"\nbundle: {bundle}\nreport: {bundle}/report.html\n" if bundle else "")


def dry_run_text(plan: Plan) -> DryRun:
    """What the plan would do, without doing any of it.

    Its JSON has `dry_run` true, `schema`, `target`, `recipe`, `seed`, `out`; `data`, `teacher` and `student` as their
    settings; `weights` (whose → file) and `missing` (a sentence, or null); `stages` with `name`, `takes`, `gives` and
    settings; `limits` with `limit`, `bound` and `origin`.
    """
    recipe = plan.recipe
    stages = [
        {"name": stage.name, "takes": stage.takes.value, "gives": stage.gives.value, "settings": settings_of(stage)}
        for stage in recipe.stages
    ]
    limits = [{"limit": limit.name, "bound": limit.bound, "origin": limit.origin} for limit in plan.budget.limits]
    missing = None
    try:
        weights = {role: path.name for role, path in plan.weights().items()}
    except PipelineError as error:
        weights, missing = {}, str(error)
    told = {
        "dry_run": True, "schema": 1, "target": plan.target.name, "recipe": recipe.name, "seed": plan.seed,
        "out": str(plan.out),
        "data": settings_of(recipe.data), "teacher": settings_of(recipe.teacher),
        "student": settings_of(recipe.student), "weights": weights, "missing": missing, "stages": stages,
        "limits": limits,
    }  # fmt: skip
    text = f"recipe {recipe.name} for target {plan.target.name} ({plan.target.summary})\n"
    text += f"would write {plan.bundle}\n\n"
    text += table(
        [["stage", "takes", "gives"], ["teacher", "–", "torch"], *[[s["name"], s["takes"], s["gives"]] for s in stages]]
    )
    text += "\n" + table(
        [
            ["limit", "bound", "origin"],
            *[[limit.name, f"{limit.bound:g}", limit.origin] for limit in plan.budget.limits],
        ]
    )
    if missing:
        text += f"\nmissing: {missing}\n"
    return DryRun(text, told)
