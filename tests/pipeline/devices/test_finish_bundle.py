"""A bundle made without its device is finished: over a device, or by its own script and `compress build`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.integrity
from pipeline.commands.build_command import build
from pipeline.data.dataset import inputs_for_network
from pipeline.errors import BundleRefused
from pipeline.finish_bundle import finish_bundle
from pipeline.integrity import read_manifest
from pipeline.store import file_digest
from pipeline.verify import verify_bundle
from targets.budget import Limit
from targets.engines.ort import OnnxRuntime
from targets.errors import DeviceMissing
from targets.on_device.bundle_check import refuse_damaged
from targets.reach.device import Device
from targets.reach.local import is_x86
from targets.target import Target

Runs = Callable[..., Any]
EASY = (
    Limit("max_latency_ms", 10_000.0, "test"),
    Limit("min_speedup", 1e-6, "test"),
    Limit("max_accuracy_drop_points", 100.0, "test"),
)


@pytest.fixture(scope="module")
def unfinished_x86(ran: Runs, away: Callable[[str], Target], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run for an x86 that is not here."""
    if not is_x86():
        pytest.skip("an x86 processor is missing: this machine is the device x86-cpu of the test")
    return ran(tmp_path_factory.mktemp("x86") / "out", away("x86-cpu").from_here(), *EASY)


@pytest.fixture
def bundle(unfinished_x86: Any, tmp_path: Path) -> Path:
    """A copy of its bundle."""
    assert unfinished_x86.journey.exit_code == 3
    shutil.copytree(unfinished_x86.bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def whole(folder: Path) -> dict[str, Any]:
    """The manifest, after both lists of digests were found right."""
    manifest = read_manifest(folder)
    assert pipeline.integrity.refuse_damaged(folder, manifest) == refuse_damaged(folder) + 1
    return manifest


@pytest.mark.slow
def test_over_a_device_3_budgets_are_met_and_the_engine_answers_as_one_that_is_built_here(
    bundle: Path, unfinished_x86: Any, here: Device, away: Callable[[str], Target], tmp_path: Path
) -> None:
    folder, told = finish_bundle(bundle, target=away("x86-cpu"), device=here)
    manifest = whole(folder)
    assert told == manifest
    assert [verdict["verdict"] for verdict in manifest["verdicts"]] == ["met"] * 3
    assert manifest["exit_code"] == json.loads((folder / "result.json").read_text())["exit_code"] == 0
    assert manifest["speedup"] > 0
    assert manifest["engine"]["file"] == "engine.onnx"
    assert manifest["engine"]["runtime"].startswith("onnxruntime ")
    rivals = {each["name"]: each["shipped"] for each in manifest["stages"][-1]["facts"]["rivals"]}
    assert sorted(rivals) == ["float", "int8"]
    assert sum(rivals.values()) == 1
    # the engine of the same file, made and asked by the host's own ONNX Runtime
    evidence = json.loads((folder / "evidence" / "evidence.json").read_text())
    OnnxRuntime().build(folder / "lowered.onnx", tmp_path / "here.engine.onnx", threads=1)
    test = unfinished_x86.dataset.test.inputs
    wanted = OnnxRuntime().open(tmp_path / "here.engine.onnx", threads=1)(
        inputs_for_network(unfinished_x86.dataset, test)
    )
    (row,) = evidence["engines"]["int8"]["answers"]
    found = np.fromfile(folder / "evidence" / row["file"], np.float32).reshape(row["shape"])
    assert found.tobytes() == np.asarray(wanted).tobytes()
    assert manifest["conditions"]["on_target"]
    assert manifest["conditions"]["machine"] == here.facts()["hostname"]


@pytest.mark.slow
def test_its_own_script_leaves_evidence_that_the_command_judges_to_exit_code_0(
    bundle: Path, ends: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = ends(bundle)
    lines = ended.stdout.splitlines()
    assert ended.returncode == 3, ended.stderr  # accuracy is the host's to judge
    assert lines[0].startswith("met: max_latency_ms 10000 (test): ")
    assert lines[1].startswith("met: min_speedup 1e-06 (test): ")
    assert lines[2].startswith("undecided: max_accuracy_drop_points 100 (test): right of 2: int8 ")
    assert build([str(bundle)], config=tmp_path / "none.ini") == 0
    assert "met: max_accuracy_drop_points 100 (test)" in capsys.readouterr().out
    manifest = whole(bundle)
    assert [verdict["verdict"] for verdict in manifest["verdicts"]] == ["met"] * 3
    # what the script said of accuracy is what the host counts
    said = lines[2].split("right of 2: ")[1].split(";")[0].split(", ")
    teacher = next(float(each.split()[1]) for each in said if each.startswith("teacher "))
    int8 = next(float(each.split()[1]) for each in said if each.startswith("int8 "))
    if manifest["stages"][-1]["facts"]["rivals"][0]["shipped"]:
        assert manifest["accuracy_drop_points"] == pytest.approx(teacher - int8, abs=0.01)  # two digits are shown
    checked = verify_bundle(bundle)
    assert (checked.is_the_engine, checked.identical) == (True, True), checked.remarks
    assert (bundle / "engine.onnx").is_file()


@pytest.mark.parametrize("changed", ["lowered.onnx", "on_device.pyz", "to_finish/order.json"])
def test_1_changed_byte_is_refused_by_name_here_and_there(
    bundle: Path, ends: Callable[..., Any], away: Callable[[str], Target], changed: str
) -> None:
    content = bytearray((bundle / changed).read_bytes())
    content[-1] ^= 1
    (bundle / changed).write_bytes(bytes(content))
    with pytest.raises(BundleRefused, match=f"damaged. changed: {changed}"):
        finish_bundle(bundle, target=away("x86-cpu"), device=None)
    if changed == "lowered.onnx":
        ended = ends(bundle)
        assert ended.returncode == 2
        assert f"{changed} was changed" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert not (bundle / "evidence").exists()


def test_without_evidence_foreign_evidence_and_damaged_evidence_are_3_sentences(
    bundle: Path, away: Callable[[str], Target], here: Device
) -> None:
    target, place = away("x86-cpu"), bundle / "evidence"
    before = (bundle / "manifest.json").read_bytes()

    def refused(kind: type[Exception] = BundleRefused) -> str:
        with pytest.raises(kind) as caught:
            finish_bundle(bundle, target=target, device=None)
        assert (bundle / "manifest.json").read_bytes() == before
        assert list(bundle.parent.glob(".bundle.*")) == []  # nothing is left beside it
        said = str(caught.value)
        assert len(said) <= 420
        return said

    assert "has no evidence of a device" in refused()
    place.mkdir()
    facts = here.facts()
    sound = {"schema": 1, "order_sha256": file_digest(bundle / "to_finish" / "order.json"),
             "facts": facts, "engines": {}, "times": {"failed": "nobody looked"}}  # fmt: skip

    def leave(**fields: Any) -> None:
        (place / "evidence.json").write_text(json.dumps({**sound, **fields}))

    leave(order_sha256="0" * 64)
    assert "is of another bundle" in refused()
    leave(facts={**facts, "architecture": "aarch64"})
    assert "is not a x86-cpu: its processor is aarch64, not x86" in refused(DeviceMissing)
    leave()
    assert "evidence" in refused()
    leave(engines={"int8": {"engine": "../../manifest.json", "build": {}, "answers": []}})
    assert "is damaged" in refused()
    leave(engines={"int8": {"engine": "gone", "build": {}, "answers": []}})
    assert "is damaged" in refused()
    (place / "evidence.json").write_text('["none"]')
    assert "has no evidence of a device" in refused()


def test_a_device_of_another_kind_is_refused_before_1_job_is_begun(bundle: Path, away: Callable[[str], Target]) -> None:
    class Arm:
        address = "ssh://pi"

        def facts(self) -> dict[str, Any]:
            return {"architecture": "aarch64", "cpu_features": ["asimddp"]}

    with pytest.raises(DeviceMissing, match="The device ssh://pi is not a x86-cpu: its processor is aarch64"):
        finish_bundle(bundle, target=away("x86-cpu"), device=Arm())  # type: ignore[arg-type]
