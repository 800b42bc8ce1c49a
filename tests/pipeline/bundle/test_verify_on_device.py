"""`verify_bundle` with a device: what is asked there, and what is said where it cannot be."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import write_bundle
from pipeline.integrity import MANIFEST, SUMS, digests_of, file_digest, sums_text
from pipeline.verify import verify_bundle
from targets.engines.elsewhere import beside_engine
from targets.engines.ort import OnnxRuntime
from targets.errors import DeviceLost, DeviceMissing, EngineRefused, TargetsError
from targets.on_device.main import JOBS, function_of


class Device:
    """Does its jobs in this process and counts them; `fails` is raised instead, where there is one."""

    address = "ssh://this@machine"

    def __init__(self, folder: Path, *, fails: TargetsError | None = None, **facts: Any) -> None:
        self.folder, self.fails, self.jobs = folder, fails, list[str]()
        self.told = {**function_of(JOBS["facts"])({}, folder), **facts}

    def facts(self) -> dict[str, Any]:
        return dict(self.told)

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        self.jobs.append(what)
        if self.fails is not None:
            raise self.fails
        folder = self.folder / f"job {len(self.jobs)}"
        folder.mkdir()
        for file, path in files.items():
            shutil.copyfile(path, folder / file)
        told = function_of(JOBS[what])(dict(job), folder)
        for file in told["files"]:
            assert into is not None
            shutil.copyfile(folder / file, into / file)
        return dict(told)


@pytest.fixture
def bundle(finished: Any) -> Path:
    return write_bundle(finished.plan, finished.journey, dataset=finished.dataset)


def resealed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    manifest["files"] = digests_of(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / SUMS).write_text(sums_text(manifest["files"], manifest=file_digest(folder / MANIFEST)))


def test_16_stored_examples_are_answered_by_the_engine_on_the_device_in_1_job(bundle: Path, tmp_path: Path) -> None:
    told = {"input": {"name": "image", "dtype": "float32"}}  # as the device would have left it
    beside_engine(bundle / "engine.onnx").write_text(json.dumps(told))
    resealed(bundle, lambda _: None)
    device = Device(tmp_path)
    found = verify_bundle(bundle, device=device)
    assert (found.exit_code, found.asked, found.answers.inputs) == (0, "engine.onnx", 16), found.remarks
    assert (found.identical, device.jobs) == (True, ["answer"])


def test_a_bundle_without_an_engine_asks_the_device_in_0_jobs_and_names_the_command(
    bundle: Path, tmp_path: Path
) -> None:
    resealed(bundle, lambda manifest: manifest["engine"].update(runtime="unbuilt ONNX for TensorRT on x86-cpu"))
    device = Device(tmp_path)
    found = verify_bundle(bundle, device=device)
    assert (found.exit_code, found.asked, found.unbuilt, device.jobs) == (3, "model.onnx", True, [])
    assert "`compress build BUNDLE --device ADDRESS`" in found.remarks[0]


def test_a_device_of_another_kind_is_refused_before_1_job(bundle: Path, tmp_path: Path) -> None:
    device = Device(tmp_path, architecture="aarch64")
    with pytest.raises(DeviceMissing, match="is not a x86-cpu: its processor is aarch64"):
        verify_bundle(bundle, device=device)
    assert device.jobs == []


def test_a_lost_device_ends_the_command_and_a_refused_engine_leaves_model_onnx_with_exit_code_3(
    bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(DeviceLost, match="the link broke"):
        verify_bundle(bundle, device=Device(tmp_path, fails=DeviceLost("the link broke")))
    found = verify_bundle(bundle, device=Device(tmp_path, fails=EngineRefused("It was built elsewhere.")))
    assert (found.exit_code, found.asked, found.remarks[0]) == (3, "model.onnx", "It was built elsewhere.")


def test_another_version_there_is_named_with_the_1_of_the_engine(bundle: Path, tmp_path: Path) -> None:
    device = Device(tmp_path, onnxruntime={"version": "1.0.0"})
    found = verify_bundle(bundle, device=device)
    assert (found.exit_code, device.jobs) == (3, [])
    assert f"was built by {OnnxRuntime().runtime} on " in found.remarks[0]
    assert "; ssh://this@machine has onnxruntime 1.0.0 on " in found.remarks[0]


def test_without_a_device_1_remark_says_how_the_plan_of_another_is_asked(bundle: Path) -> None:
    def on_a_jetson(manifest: dict[str, Any]) -> None:
        manifest["target"]["name"] = "jetson-orin"
        manifest["engine"]["runtime"] = "tensorrt 10.3.0"

    resealed(bundle, on_a_jetson)
    found = verify_bundle(bundle)
    assert (found.exit_code, found.asked) == (3, "model.onnx")
    assert "With --device ADDRESS the engine is asked where it was built." in found.remarks
