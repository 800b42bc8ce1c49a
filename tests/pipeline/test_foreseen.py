"""A whole run for devices that are not here: an estimate beside the verdicts, which are what they are without one."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import pipeline.compress
from pipeline.compress import compress
from pipeline.data.dataset import Dataset
from pipeline.foreseen import foreseen
from pipeline.journey import Journey
from pipeline.models.convnet import ConvNet
from pipeline.plan import Plan
from pipeline.printing import result_text
from pipeline.progress import Quiet
from pipeline.recipe import Recipe
from pipeline.report import story_from
from pipeline.report_estimate import estimate_section
from pipeline.report_markdown import markdown_from
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher
from pipeline.training.loop import Training
from pipeline.workers import Workers
from targets.budget import Budget, Limit
from targets.estimate import Estimate, Span
from targets.find import target_named
from targets.measurement import Latency, Measurement
from targets.verdict import Outcome, Verdict

# Limits far beyond any estimate on either side: if one could decide, it would.
BUDGET = Budget(
    (
        Limit("max_latency_ms", 1e9, "a test"),
        Limit("min_speedup", 1e9, "a test"),
        Limit("max_accuracy_drop_points", 50.0, "a test"),
        Limit("max_memory_mb", 1e9, "a test"),
    )
)


def data_of(data: Dataset, _folder: Path | None, *, cache: Path) -> Dataset:
    return data


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run with an estimate, what it left, and the same run once more without one."""

    plan: Plan
    journey: Journey
    manifest: dict[str, Any]
    told: dict[str, Any]
    report: str
    without: Journey


@pytest.fixture(scope="module")
def ran(tiny_data: Callable[..., Dataset], alone: Workers, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The shortest recipe there is, run for a Jetson as the command does."""
    recipe = Recipe(
        name="by-hand", data=partial(data_of, tiny_data()),
        teacher=Teacher(partial(ConvNet, width=8, classes=4, channels=3), training=Training(epochs=3, batch=16)),
        stages=(Quantize(training=None), Export(0.5), Build(0.5)),
        budget=BUDGET,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("run") / "out"
    plan = Plan(recipe=recipe, target=target_named("jetson-orin").from_here(), budget=BUDGET, out=out)
    journey = compress(plan, workers=alone, progress=Quiet())
    told, manifest = (json.loads((plan.bundle / name).read_text()) for name in ("result.json", "manifest.json"))
    report = (plan.bundle / "report.md").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.compress, "foreseen", lambda *_: None)
        without = compress(plan, workers=alone, progress=Quiet())
    return Ran(plan, journey, manifest, told, report, without)


def every_verdict(journey: Journey) -> list[Verdict]:
    return [*(verdict for row in journey.results for verdict in row.verdicts), *journey.verdicts]


def values_in(value: Any) -> list[Any]:
    """Everything inside dataclasses, dicts and sequences."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [value, *(each for field in dataclasses.fields(value) for each in values_in(getattr(value, field.name)))]
    if isinstance(value, dict):
        return [each for inner in value.values() for each in values_in(inner)]
    if isinstance(value, (list, tuple)):
        return [each for inner in value for each in values_in(inner)]
    return [value]


def test_verdicts_measurements_and_exit_code_3_are_the_same_with_an_estimate_and_without(ran: Ran) -> None:
    journey, without = ran.journey, ran.without
    assert isinstance(journey.estimate, Estimate)
    assert journey.estimate.engine_ms is not None
    assert without.estimate is None
    assert every_verdict(journey) == every_verdict(without)
    assert len(every_verdict(journey)) == 4
    assert [row.measurement for row in journey.results] == [row.measurement for row in without.results]
    assert journey.exit_code == without.exit_code == 3
    assert journey.speedup is None


def test_3_limits_that_any_estimate_would_decide_stay_undecided_and_hold_none_of_its_values(ran: Ran) -> None:
    timed = [verdict for verdict in ran.journey.verdicts if verdict.limit != "max_accuracy_drop_points"]
    assert len(timed) == 3
    for verdict in timed:
        assert (verdict.measured, verdict.interval, verdict.outcome) == (None, None, Outcome.UNDECIDED)
        assert verdict.why.startswith("not measured on jetson-orin")
    inside = values_in([ran.journey.verdicts, *([row.measurement, row.verdicts] for row in ran.journey.results)])
    assert len(inside) > 100  # scores, conditions, reasons: the walk does go inside
    assert not [each for each in inside if isinstance(each, (Span, Estimate))]
    assert "estimate" not in {field.name for kind in (Measurement, Verdict) for field in dataclasses.fields(kind)}
    assert not [each for each in values_in([ran.told["verdicts"], ran.told["stages"]]) if "estimate" in str(each)]


def test_result_manifest_text_and_report_call_it_an_estimate_with_2_ends_and_its_assumptions(ran: Ran) -> None:
    made, said = ran.journey.estimate, ran.told["estimate"]
    assert made is not None
    assert made.engine_ms is not None
    assert said == ran.manifest["estimate"]
    assert said["label"] == "estimate, not a measurement"
    assert said["board"] == "Jetson AGX Orin 64GB"
    assert said["engine_ms"] == {"low": made.engine_ms.low, "high": made.engine_ms.high}
    assert 0 < said["engine_ms"]["low"] < said["engine_ms"]["high"]
    assert said["speedup"]["low"] < 1 < said["speedup"]["high"]  # of a network so small nothing is known
    assert "MLPerf" in said["assumptions"][0]
    text = result_text(ran.journey, None)
    (line,) = [line for line in text.splitlines() if line.startswith("estimate")]
    assert line.startswith("estimate, not a measurement: ")
    assert " ms on Jetson AGX Orin 64GB, the teacher in FP32 " in line
    assert "(roofline: 0.1 to 0.3 of the dense peak" in text
    assert "Estimate, not a measurement: " in ran.report
    assert "No verdict rests on it." in ran.report


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("jetson-thor", "no estimate on Jetson T5000: no source was found for its peak in INT8 and its peak in FP16"),
        ("nvidia-a2", "no estimate on NVIDIA A2: no source was found for its memory bandwidth"),
        ("nvidia-h200", "no estimate on NVIDIA H200 SXM: no source was found for its peak in INT8"),
        ("arm64-cpu", "no estimate: no figures of such a board are known"),
    ],
)
def test_where_1_figure_lacks_it_is_named_and_no_number_is_given(
    target: str, said: str, ran: Ran, run_in: Callable[..., Run], tmp_path: Path
) -> None:
    away = dataclasses.replace(target_named(target), is_here=lambda: False).from_here()
    made = foreseen(ran.journey.results, run_in(tmp_path / "run", target=away))
    assert made is not None
    assert (made.engine_ms, made.teacher_ms, made.speedup) == (None, None, None)
    assert f"\n{said}\n" in result_text(dataclasses.replace(ran.journey, estimate=made), None)
    section = estimate_section({"estimate": made.as_json()})
    assert section is not None
    assert section.parts == (f"{said.replace('no estimate', 'No estimate', 1)}.",)


def test_a_target_that_is_here_or_0_exported_files_leave_nothing_to_estimate(
    ran: Ran, run_in: Callable[..., Run], tmp_path: Path
) -> None:
    results = ran.journey.results
    assert foreseen(results, run_in(tmp_path / "here", target=target_named("null"))) is None
    away = run_in(tmp_path / "away", target=target_named("jetson-orin").from_here())
    assert foreseen(results[:1], away) is None
    assert foreseen(results, away) == ran.journey.estimate
    last = results[-1].measurement
    assert last.conditions is not None
    missing = {name: why for name, why in last.missing.items() if name != "latency"}
    timed = dataclasses.replace(last, latency=Latency((1.0, 2.0), last.conditions), missing=missing)
    assert foreseen([*results[:-1], dataclasses.replace(results[-1], measurement=timed)], away) is None


def test_a_manifest_of_an_earlier_version_has_0_words_on_estimates(ran: Ran) -> None:
    manifest = {name: value for name, value in ran.manifest.items() if name != "estimate"}
    assert estimate_section(manifest) is None
    assert "Estimate" not in markdown_from(story_from(manifest))
