"""The main command from end to end on a tiny network: its JSON, its exit codes, its budgets, and what it leaves."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import safetensors.numpy

from pipeline import journey

NUMBER = (int, float)
STAGE = {
    "name": str, "metric": str, "form": str, "reused": bool, "seconds": NUMBER, "accuracy": NUMBER, "accuracy_n": int,
    "parameters": int, "macs": int, "size_bytes": int, "latency_p50_ms": NUMBER, "latency_p99_ms": NUMBER,
    "peak_memory_bytes": int, "reasons": dict, "verdicts": list,
}  # fmt: skip
VERDICT = {
    "limit": str, "bound": NUMBER, "measured": NUMBER, "interval": list, "verdict": str, "why": str, "origin": str,
}  # fmt: skip
TOP = {
    "schema": int, "target": str, "recipe": str, "seed": int, "bundle": str, "exit_code": int, "stopped": type(None),
    "stages": list, "engine": dict, "speedup": NUMBER, "accuracy_drop_points": NUMBER, "verdicts": list,
    "estimate": type(None),  # the target is here
}  # fmt: skip
STAGES = ["teacher", "distill", "prune", "quantize", "export", "build"]


def of_kind(told: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Every key is there and no other, each of its type."""
    assert set(told) == set(kinds)
    assert [name for name, kind in kinds.items() if not isinstance(told[name], kind)] == []


def test_the_recipe_of_init_runs_as_it_stands_and_meets_3_budgets_with_exit_code_0(finished: Any) -> None:
    assert finished.ended.exit_code == 0, finished.ended.stderr
    told = finished.ended.told
    assert [verdict["verdict"] for verdict in told["verdicts"]] == ["met", "met", "met"]
    assert told["exit_code"] == 0


def test_standard_output_holds_1_json_object_with_every_documented_key_of_its_type(finished: Any) -> None:
    told = finished.ended.told
    of_kind(told, TOP)
    assert (told["schema"], told["target"], told["recipe"], told["seed"]) == (1, "x86-cpu", "my-recipe", 0)
    of_kind(told["engine"], {"runtime": str, "integer_ops": int, "float_ops": int})
    assert [stage["name"] for stage in told["stages"]] == STAGES
    assert [stage["form"] for stage in told["stages"]] == ["torch"] * 4 + ["onnx", "engine"]
    for stage in told["stages"]:
        of_kind(stage, STAGE)
        assert 0 <= stage["accuracy"] <= 1
        assert stage["accuracy_n"] == 48  # a fifth of 240 pictures
        assert 0 < stage["latency_p50_ms"] <= stage["latency_p99_ms"]
    for verdict in told["verdicts"]:
        of_kind(verdict, VERDICT)
        assert len(verdict["interval"]) == 2


def test_every_key_of_4_objects_stands_in_the_docstring_that_the_help_names(quick: Any, tmp_path: Path) -> None:
    shown = quick("--help", cwd=tmp_path).stdout
    assert "pipeline.journey" in shown
    words = set(re.findall(r"[a-z_0-9]+", journey.__doc__ or ""))
    engine = ("runtime", "integer_ops", "float_ops")
    assert [key for key in (*TOP, *STAGE, *VERDICT, *engine) if key not in words] == []


def test_a_number_that_is_missing_is_null_with_1_reason(finished: Any) -> None:
    teacher, *later = finished.ended.told["stages"]
    assert set(teacher["reasons"]) == {"pairs"}  # nothing to be timed against
    for stage in (teacher, *later):
        nulls = {name for name in STAGE if stage[name] is None}
        assert nulls == set(stage["reasons"]) - {"pairs"}
    assert all(stage["reasons"] == {} for stage in later)


def test_pruning_to_half_the_operations_leaves_at_most_55_percent_of_them(finished: Any) -> None:
    macs = {stage["name"]: stage["macs"] for stage in finished.ended.told["stages"]}
    assert macs["prune"] <= 0.55 * macs["distill"]  # keep_macs=0.5; widths are multiples of 8, so 5 % of room
    assert macs["quantize"] == macs["build"] == macs["prune"]


def test_the_bundle_holds_the_same_result_as_standard_output_but_for_1_path(finished: Any) -> None:
    bundle = finished.out / "bundle"
    kept = json.loads((bundle / "result.json").read_text())
    told = finished.ended.told
    assert Path(finished.world, told["bundle"]) == bundle
    assert {**kept, "bundle": told["bundle"]} == told


def test_a_speedup_of_10000_is_missed_with_exit_code_1_and_6_stages_are_kept(again: Any) -> None:
    ended = again("--min-speedup", "10000", "--max-accuracy-drop", "10")
    assert ended.exit_code == 1, ended.stderr
    told = ended.told
    verdicts = {verdict["limit"]: verdict["verdict"] for verdict in told["verdicts"]}
    assert verdicts == {"max_latency_ms": "met", "min_speedup": "missed", "max_accuracy_drop_points": "met"}
    assert [stage["reused"] for stage in told["stages"]] == [True] * 6
    assert told["bundle"] is not None  # a missed budget is handed over with the verdict in it


def test_a_drop_of_0_points_is_undecided_on_48_pictures_with_exit_code_3(again: Any) -> None:
    ended = again("--min-speedup", "0.001", "--max-accuracy-drop", "0")
    assert ended.exit_code == 3, ended.stderr
    (drop,) = [each for each in ended.told["verdicts"] if each["limit"] == "max_accuracy_drop_points"]
    assert drop["verdict"] == "undecided"
    low, high = drop["interval"]
    assert low < 0 < high  # fewer than ten disagreements never exclude a drop of zero
    assert "48" in drop["why"]


def test_fresh_forgets_all_6_finished_stages(finished: Any, quick: Any, tmp_path: Path) -> None:
    shutil.copytree(finished.out / "work", tmp_path / "out" / "work")
    before = {path.name for path in (tmp_path / "out" / "work").glob("*-*")}
    assert len(before) == 6
    flags = ("--recipe", "./photos.py", "--data", "photos", "--target", "null", "--out", str(tmp_path / "out"))
    ended = quick(*flags, "--fresh", "--json", cwd=finished.world)
    assert ended.exit_code == 0, ended.stderr
    assert before & {path.name for path in (tmp_path / "out" / "work").iterdir()} == set()
    assert [stage["reused"] for stage in ended.told["stages"]] == [False] * 4


def test_weights_without_their_ranges_are_noticed_and_1_stage_of_6_is_carried_out_again(
    again: Any, tmp_path: Path
) -> None:
    (weights,) = (tmp_path / "out" / "work").glob("quantize-*/weights.safetensors")
    state = safetensors.numpy.load_file(weights)
    ranges = [name for name in state if name.endswith("amax")]
    assert len(ranges) >= 2
    safetensors.numpy.save_file({name: state[name] for name in state if name not in ranges}, weights)
    ended = again("--min-speedup", "0.001", "--max-accuracy-drop", "10")
    assert ended.exit_code == 0, ended.stderr
    assert [stage["name"] for stage in ended.told["stages"] if not stage["reused"]] == ["quantize"]
    made = safetensors.numpy.load_file(weights)
    assert {name: made[name].tolist() for name in ranges} == {name: state[name].tolist() for name in ranges}


STAGE_LIMIT = """
from networks import large, small
from pipeline.data.image_folder import ImageFolder
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.distill import Distill
from pipeline.stages.export import Export
from pipeline.stages.teach import Network, Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import Sgd
from targets.budget import Budget, Limit

RECIPE = Recipe(
    name="stuck",
    data=ImageFolder(size=(16, 16), resize_short=None),
    teacher=Teacher(large, training=Training(epochs=2, batch=16, optimizer=Sgd(lr=0.05))),
    student=Network(small),
    stages=(
        Distill(
            Training(epochs=1, batch=16, optimizer=Sgd(lr=1e-12)),
            limits=Budget((Limit("max_accuracy_drop_points", 20.0, "stage distill"),)),
        ),
        Export(),
        Build(),
    ),
    budget=Budget((Limit("max_accuracy_drop_points", 99.0, "recipe stuck"),)),
)
"""


def test_a_stage_limit_out_of_reach_stops_the_run_after_2_rows_with_exit_code_1(finished: Any, quick: Any) -> None:
    (finished.world / "stuck.py").write_text(STAGE_LIMIT)
    # The student does not learn: 1 of 4 classes right, about 75 points below the teacher, on 48 pictures.
    flags = ("--recipe", "./stuck.py", "--data", "photos", "--target", "x86-cpu", "--out", "stuck", "--json")
    ended = quick(*flags, cwd=finished.world)
    assert ended.exit_code == 1, ended.stderr
    told = ended.told
    assert [stage["name"] for stage in told["stages"]] == ["teacher", "distill"]
    (verdict,) = told["stages"][1]["verdicts"]
    assert (verdict["verdict"], verdict["bound"], verdict["origin"]) == ("missed", 20.0, "stage distill")
    assert "after stage 'distill'" in told["stopped"]
    assert (told["bundle"], told["engine"]) == (None, None)
    assert not (finished.world / "stuck" / "bundle").exists()


def test_each_of_3_places_overrides_the_one_before_and_a_dry_run_writes_nothing(
    world: Path, quick: Any, tmp_path: Path
) -> None:
    recipe = (world / "photos.py").read_text().rstrip().removesuffix(")")
    limit = '    budget=Budget((Limit("max_accuracy_drop_points", 2.0, "recipe photos"),)),\n)\n'
    imports = "from targets.budget import Budget, Limit\n"
    (tmp_path / "budget.py").write_text(imports + recipe + limit)
    (tmp_path / "networks.py").write_text((world / "networks.py").read_text())
    flags = ("--max-latency-ms", "5 ms", "--dry-run", "--json")
    ended = quick("--target", "x86-cpu", "--recipe", "./budget.py", *flags, cwd=tmp_path)
    assert ended.exit_code == 0, ended.stderr
    assert [(limit["limit"], limit["bound"], limit["origin"]) for limit in ended.told["limits"]] == [
        ("max_latency_ms", 5.0, "command line"),  # the target says 33.3
        ("min_speedup", 1.0, "target x86-cpu"),
        ("max_accuracy_drop_points", 2.0, "recipe photos"),  # the target says 1
    ]
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"budget.py", "networks.py"}
