"""`compress` for a Jetson that is reached: a stand-in with made-up times, and true commands, answers and verdicts."""

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.finish_bundle import finish_bundle
from pipeline.integrity import read_manifest, refuse_damaged, sums_text
from pipeline.store import file_digest
from targets.budget import Limit
from targets.errors import DeviceMissing
from targets.find import target_named
from targets.on_device.finish import ORDER, finish
from targets.on_device.stability import unstable
from targets.on_device.tensor_rt_versions import REMOVED_IN_11
from targets.target import Target
from targets.verdict import Outcome

Runs = Callable[..., Any]
Jetson = Callable[..., Any]
Judged = Callable[..., dict[str, Any]]
QUICK = {"processes": 1, "warm_up_ms": 0, "seconds": 0.01}
# The times are the stand-in's: 0.8 ms in INT8, 1.2 in half precision, and 3 % for transfers
LOOSE = Limit("max_latency_ms", 1.0, "test")
FASTER = Limit("min_speedup", 1.3, "test")
DROP = Limit("max_accuracy_drop_points", 100.0, "test")


def lines(board: Any, *words: str) -> list[str]:
    return [line for line in board.commands() if line.startswith("trtexec ") and all(word in line for word in words)]


@pytest.mark.slow
def test_with_times_of_0_8_ms_3_budgets_are_met_and_clocks_are_locked_and_put_back(
    ran: Runs, jetson_in: Jetson, tmp_path: Path
) -> None:
    board, device = jetson_in(tmp_path)
    clocks = board.clock_texts()
    target = target_named("jetson-orin-nano").through(
        device, settings={**QUICK, "lock_clocks": True, "power_mode": "25W"}
    )
    done = ran(tmp_path / "out", target, LOOSE, FASTER, DROP)
    assert [verdict.outcome for verdict in done.journey.verdicts] == [Outcome.MET] * 3
    assert done.journey.exit_code == 0
    assert done.journey.speedup == pytest.approx(1.5, rel=0.01)  # 1.2 / 0.8, and 0.4 % of made-up noise
    builds = lines(board, "--onnx=model.onnx")
    # int8 with half precision for what carries quantizers, half precision alone for the teacher and the float rival
    assert sorted({"--int8" in line for line in builds}) == [False, True]
    # and once more with the types of the file, which is a rival
    assert [("--fp16" in line) == ("--stronglyTyped" not in line) for line in builds] == [True] * len(builds)
    assert sum("--stronglyTyped" in line for line in builds) == 1
    assert lines(board, "--useCudaGraph", "--exportTimes", "--loadInputs=")
    assert board.mode() == "15W"
    assert board.clock_texts() == clocks
    assert {"nvpmodel -m 1", "nvpmodel -m 0", "jetson_clocks"} <= set(board.changes())
    last = done.journey.results[-1].measurement
    state = last.conditions.device
    assert state["module"] == "Jetson Orin Nano 8GB"
    assert "stand-in" in state["board"]
    assert state["tensorrt"] == "10.3.0"
    assert state["before"]["power_mode"]["name"] == "25W"  # that of the measurement, not of the idle board
    assert state["compute_p50_ms"] == pytest.approx(0.8, rel=0.01)
    assert last.latency.p50_ms == pytest.approx(0.8 * 1.03, rel=0.01)
    manifest = read_manifest(done.bundle)
    assert refuse_damaged(done.bundle, manifest) > 10
    assert manifest["engine"]["runtime"] == "tensorrt 10.3.0"
    assert manifest["engine"]["file"] == "engine.plan"
    assert manifest["engine"]["integer_ops"] == 3  # every convolution; the last layer stays in float
    assert json.loads((done.bundle / "engine.plan.json").read_text())["identity"]["runtime"] == "tensorrt 10.3.0"


@pytest.fixture(scope="module")
def unfinished(ran: Runs, away: Callable[[str], Target], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run without the board, and with budgets that its recorded times will meet."""
    out = tmp_path_factory.mktemp("nano") / "out"
    done = ran(out, target_named("jetson-orin-nano").from_here(), LOOSE, FASTER, DROP)
    assert done.journey.exit_code == 3
    return done


@pytest.fixture
def bundle(unfinished: Any, tmp_path: Path) -> Path:
    shutil.copytree(unfinished.bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


class Settled:
    """The device, whose jobs get settings that make a stand-in quick."""

    def __init__(self, device: Any) -> None:
        self.device, self.address = device, device.address

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = self.device.facts()
        return found

    def job(self, what: str, job: dict[str, Any], **more: Any) -> dict[str, Any]:
        settings = {**job.get("settings", {}), **QUICK}
        found: dict[str, Any] = self.device.job(what, {**job, "settings": settings}, **more)
        return found


def finished(bundle: Path, device: Any) -> dict[str, Any]:
    _, manifest = finish_bundle(bundle, target=target_named("jetson-orin-nano"), device=Settled(device))  # type: ignore[arg-type]
    refuse_damaged(bundle, manifest)
    return manifest


def verdicts(manifest: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["limit"]: (each["verdict"], each["why"]) for each in manifest["verdicts"]}


@pytest.fixture(scope="module")
def recorded(unfinished: Any, jetson_in: Jetson, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A bundle that was finished over the stand-in, and that; its evidence is what other tests put other times into."""
    folder = tmp_path_factory.mktemp("recorded")
    board, device = jetson_in(folder)
    shutil.copytree(unfinished.bundle, folder / "bundle")
    finished(folder / "bundle", device)
    return folder / "bundle", board


@pytest.fixture
def judged_with(recorded: tuple[Path, Any], bundle: Path) -> Callable[..., dict[str, Any]]:
    """Puts these times into the evidence and judges it, as `compress build` does; gives the manifest."""

    def judge(*, variation: float = 0.004, **medians: float) -> dict[str, Any]:
        shutil.copytree(recorded[0] / "evidence", bundle / "evidence")
        path, noise = bundle / "evidence" / "evidence.json", random.Random(0)
        evidence = json.loads(path.read_text())
        times = evidence["times"]
        for run in times["runs"]:
            median = medians[run["engine"].split(".")[0]]
            run["compute_ms"] = [median * (1 + noise.gauss(0, variation)) for _ in range(299)]
            run["latency_ms"] = [1.03 * each for each in run["compute_ms"]]
        times["unstable"] = unstable(times["runs"], times["before"], times["after"])
        path.write_text(json.dumps(evidence))
        _, manifest = finish_bundle(bundle, target=target_named("jetson-orin-nano"), device=None)
        refuse_damaged(bundle, manifest)
        return manifest

    return judge


def test_1_bundle_is_finished_over_the_device_with_its_layers_rivals_and_state(recorded: tuple[Path, Any]) -> None:
    folder, board = recorded
    manifest = read_manifest(folder)
    assert manifest["exit_code"] == 0
    assert {verdict for verdict, _ in verdicts(manifest).values()} == {"met"}
    rivals = {each["name"]: each for each in manifest["stages"][-1]["facts"]["rivals"]}
    assert rivals["int8"]["shipped"]
    assert not rivals["float"]["shipped"]
    assert rivals["int8"]["speedup"] == pytest.approx(1.5, rel=0.01)
    assert manifest["engine"]["integer_ops"] == 3
    assert manifest["engine"]["layer_times"]
    assert manifest["conditions"]["device"]["before"]["temperatures_c"]
    assert manifest["conditions"]["unstable"] == []
    assert (folder / "engine.plan").read_bytes() == (folder / "evidence" / "int8.plan").read_bytes()
    assert ["--int8" in line for line in lines(board, "--onnx=")] == [True, False, False]
    with np.load(folder / "examples.npz") as examples:
        (row,) = json.loads((folder / "evidence" / "evidence.json").read_text())["engines"]["int8"]["answers"]
        answers = np.fromfile(folder / "evidence" / row["file"], np.float32).reshape(row["shape"])
        assert examples["outputs"].tobytes() == answers.tobytes()


def test_for_tensorrt_11_the_1_file_in_half_precision_is_built_without_a_flag_and_asked_with_half_inputs(
    bundle: Path, jetson_in: Jetson, tmp_path: Path
) -> None:
    order = json.loads((bundle / ORDER).read_text())
    assert sorted(order["engines"]) == ["float", "int8", "teacher"]
    assert all((bundle / each["float16"]).is_file() for each in order["engines"].values())
    order["engines"] = {"int8": order["engines"]["int8"]}
    (bundle / ORDER).write_text(json.dumps(order))
    board, device = jetson_in(tmp_path, tensorrt="11.4.1")

    def ask(
        what: str, job: Mapping[str, Any], files: Mapping[str, Path], fetch: Sequence[str], into: Path, limit_s: float
    ) -> dict[str, Any]:
        found: dict[str, Any] = Settled(device).job(what, {**job}, files=files, fetch=fetch, into=into, limit_s=limit_s)
        return found

    evidence = finish(bundle, ask, into=tmp_path / "evidence", facts=device.facts())
    told = evidence["engines"]["int8"]
    assert told["build"]["runtime"] == "tensorrt 11.4.1"
    assert told["build"]["float16"]
    assert told["build"]["source_sha256"] == file_digest(bundle / order["engines"]["int8"]["float16"])
    every = lines(board, "--loadEngine") + lines(board, "--onnx=")
    assert not {part.split("=")[0] for line in every for part in line.split()} & set(REMOVED_IN_11)
    (row,) = told["answers"]
    assert (row["dtype"], row["shape"]) == ("float32", [2, 4])
    answers = np.fromfile(tmp_path / "evidence" / row["file"], np.float32).reshape(2, 4)
    with np.load(bundle / "examples.npz") as examples:
        # half precision around the same integers: rounded to 11 bits, and a code of 127 may fall to its neighbour
        assert np.abs(answers - examples["outputs"]).max() < 0.1 * np.abs(examples["outputs"]).max()
    assert evidence["times"]["runs"]


def test_recorded_times_of_2_ms_miss_a_budget_of_1_ms_and_the_exit_code_is_1(judged_with: Judged) -> None:
    manifest = judged_with(int8=2.0, float=3.0, teacher=3.0)
    assert manifest["exit_code"] == 1
    verdict, why = verdicts(manifest)["max_latency_ms"]
    assert verdict == "missed"
    assert why.endswith("at most 1 ms")
    assert verdicts(manifest)["min_speedup"][0] == "met"


def test_recorded_times_that_vary_by_8_percent_leave_2_budgets_undecided_and_say_why(judged_with: Judged) -> None:
    manifest = judged_with(int8=0.8, float=1.2, teacher=1.2, variation=0.08)
    assert manifest["exit_code"] == 3
    found = verdicts(manifest)
    told = {limit: why for limit, (verdict, why) in found.items() if verdict == "undecided"}
    assert sorted(told) == ["max_latency_ms", "min_speedup"]
    for why in told.values():
        assert why.startswith("the times are not to be believed: ")
        assert "more than 2.5%" in why
    assert manifest["conditions"]["unstable"]


def test_an_int8_engine_of_1_4_ms_is_not_handed_over_beside_a_float_one_of_1_2_and_the_report_says_so(
    judged_with: Judged, bundle: Path
) -> None:
    manifest = judged_with(int8=1.4, float=1.2, teacher=1.2)
    rivals = {each["name"]: each for each in manifest["stages"][-1]["facts"]["rivals"]}
    assert rivals["float"]["shipped"]
    assert not rivals["int8"]["shipped"]
    assert rivals["int8"]["why_not"].startswith("0.86 to 0.86 times as fast as what is handed over")  # 1.2 / 1.4
    assert (bundle / "engine.plan").read_bytes() == (bundle / "evidence" / "float.plan").read_bytes()
    assert manifest["engine"]["integer_ops"] == 0
    assert verdicts(manifest)["max_latency_ms"][0] == "missed"
    assert manifest["stages"][-1]["latency_p50_ms"] == pytest.approx(1.2 * 1.03, rel=0.01)
    report = (bundle / "report.md").read_text()
    assert rivals["int8"]["why_not"] in report


def test_limits_of_the_last_stage_are_judged_anew_and_those_of_stages_before_it_stay_undecided(
    judged_with: Judged, bundle: Path
) -> None:
    def rewrite(place: int) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        row = {"limit": "max_latency_ms", "bound": 1.0, "origin": "stage", "measured": None, "interval": None}
        manifest["stages"][place]["verdicts"] = [{**row, "verdict": "undecided", "why": "not measured"}]
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        sums = sums_text(manifest["files"], manifest=file_digest(bundle / "manifest.json"))
        (bundle / "SHA256SUMS").write_text(sums)

    rewrite(-1)
    manifest = judged_with(int8=0.8, float=1.2, teacher=1.2)
    assert [each["verdict"] for each in manifest["stages"][-1]["verdicts"]] == ["met"]
    assert manifest["exit_code"] == 0
    rewrite(-2)
    shutil.rmtree(bundle / "evidence")
    assert judged_with(int8=0.8, float=1.2, teacher=1.2)["exit_code"] == 3


def test_a_board_of_another_name_is_refused_by_name_in_1_sentence(
    jetson_in: Jetson, bundle: Path, tmp_path: Path
) -> None:
    board, device = jetson_in(tmp_path)
    said = (
        r"The device the stand-in Jetson is not a jetson-orin: it calls itself 'NVIDIA Jetson Orin Nano .*stand-in.*'"
    )
    with pytest.raises(DeviceMissing, match=said):
        target_named("jetson-orin").through(device)
    with pytest.raises(DeviceMissing, match=said):
        finish_bundle(bundle, target=target_named("jetson-orin"), device=device)
    assert lines(board, "--onnx") == []
