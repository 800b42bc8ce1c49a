"""A bundle whose engine is a TensorRT plan, answered by its own run.py: on a stand-in Jetson, and elsewhere."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import pipeline.data.images
from pipeline.data.preprocess import Preprocess
from pipeline.handover import run
from targets.engines.stamp import Stamp, append_stamp
from targets.reach.device_part import packed
from targets.reach.local import describe_machine

PICTURES = Path(pipeline.data.images.__file__).parent
COLOURS = ["red", "green", "blue"]
EVEN = Preprocess(channels=3, height=4, width=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def colours(path: Path) -> None:
    """Scores = 10 × the mean of each channel: a picture that is all green scores (0, 10, 0)."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "tenfold"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "colours", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(10 * np.eye(3, dtype=np.float32), "tenfold")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of these colours without its engine, and a picture of each colour beside it."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for place, names in ((Path(run.__file__).parent, ("run.py", *run.OWN)), (PICTURES, run.BESIDE)):
        for name in names:
            shutil.copyfile(place / name, folder / name)
    colours(folder / "model.onnx")
    (folder / "labels.json").write_text(json.dumps(COLOURS))
    for number, name in enumerate(COLOURS):
        pixel = tuple(255 if number == channel else 0 for channel in range(3))
        Image.new("RGB", (9, 7), pixel).save(tmp_path / f"{name}.png")
    return folder


def manifest_of(folder: Path, engine: str, runtime: str) -> None:
    content = (folder / engine).read_bytes()
    manifest = {
        "engine": {"file": engine, "runtime": runtime, "threads": 1}, "labels": "labels.json",
        "input": {"preprocess": EVEN.as_json(), "name": "image", "shape": [1, 3, 4, 4], "dtype": "float32"},
        "outputs": [{"name": "scores", "shape": [1, 3]}],
        "files": {engine: hashlib.sha256(content).hexdigest()},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def jetson(bundle: Path, stand_in_jetson: Callable[..., Any]) -> Any:
    """A stand-in Jetson that has built the plan of the bundle."""
    device, job = stand_in_jetson(), bundle.parent / "job"
    job.mkdir()
    (bundle / "on_device.pyz").write_bytes(packed())
    shutil.copyfile(bundle / "model.onnx", job / "model.onnx")
    wanted = {"runtime": "tensorrt", "onnx": "model.onnx", "engine": "engine.plan", "settings": {"mode": "float"}}
    (job / "job.json").write_text(json.dumps(wanted))
    command = [str(device.folder / "bin" / "python3"), str(bundle / "on_device.pyz"), "build", str(job)]
    built = subprocess.run(command, cwd=job, env=search(os.defpath), capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    shutil.copyfile(job / "engine.plan", bundle / "engine.plan")
    shutil.copyfile(job / "result.json", bundle / "engine.plan.json")
    manifest_of(bundle, "engine.plan", "tensorrt 10.3.0")
    (device.folder / "commands.log").unlink()
    return device


def search(path: str) -> dict[str, str]:
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "PYTHONIOENCODING": "utf-8"}


def answered(bundle: Path, python: Path | str, *pictures: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(python), str(bundle / "run.py"), *pictures, "--top", "1"],
        cwd=bundle.parent, env=search(os.defpath), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_3_pictures_are_answered_by_the_plan_in_1_job_on_its_device(bundle: Path, jetson: Any) -> None:
    done = answered(bundle, jetson.folder / "bin" / "python3", "red.png", "green.png", "blue.png")
    # Scores (10, 0, 0): e¹⁰ / (e¹⁰ + 2) = 0.99991.
    assert done.stdout == "".join(f"{name}.png\n  0.9999  {name}\n" for name in COLOURS)
    assert done.returncode == 0
    assert "model.onnx" not in done.stderr
    asked = [line for line in jetson.commands() if "--loadEngine=engine.plan" in line]
    assert len(asked) == 3  # the stand-in has trtexec alone, which is started for each input


def test_1_unreadable_picture_of_2_leaves_the_other_to_the_plan(bundle: Path, jetson: Any) -> None:
    done = answered(bundle, jetson.folder / "bin" / "python3", "none.png", "blue.png")
    assert (done.returncode, done.stdout) == (2, "blue.png\n  0.9999  blue\n")
    assert "run.py: Image none.png cannot be read: No such file or directory.\n" in done.stderr
    assert "model.onnx" not in done.stderr


def test_without_tensorrt_1_sentence_says_so_and_model_onnx_answers(bundle: Path, jetson: Any) -> None:
    if shutil.which("trtexec", path=os.defpath) or Path("/usr/src/tensorrt/bin/trtexec").exists():
        pytest.skip("a machine without TensorRT is missing: this one has trtexec")
    done = answered(bundle, sys.executable, "green.png")
    assert (done.returncode, done.stdout) == (0, "green.png\n  0.9999  green\n")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("run.py: the engine engine.plan cannot be used (")
    assert "ensor" in done.stderr and "model.onnx answers instead" in done.stderr
    assert jetson.commands() == []


def test_a_plan_of_another_gpu_is_never_loaded_and_1_sentence_names_both(bundle: Path, jetson: Any) -> None:
    told = json.loads((bundle / "engine.plan.json").read_text())
    told["identity"]["compute_capability"] = "11.0"
    (bundle / "engine.plan.json").write_text(json.dumps(told))
    done = answered(bundle, jetson.folder / "bin" / "python3", "red.png")
    assert (done.returncode, done.stdout) == (0, "red.png\n  0.9999  red\n")
    assert "engine.plan was built elsewhere: compute capability was 11.0, here it is 8.7" in done.stderr
    assert "model.onnx answers instead" in done.stderr
    assert not any("--loadEngine" in line for line in jetson.commands())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("1 byte of the plan", "its digest is not the one in manifest.json"),
        ("no identity", "engine.plan.json does not say what built it"),
        ("no engine.plan.json", "must both be there and whole"),
        ("no on_device.pyz", "on_device.pyz, which asks it, is not beside it"),
    ],
)
def test_a_plan_with_1_of_4_damages_is_told_to_no_tensorrt(bundle: Path, jetson: Any, damage: str, said: str) -> None:
    if damage.startswith("1 byte"):
        changed = bytearray((bundle / "engine.plan").read_bytes())
        changed[-1] ^= 1
        (bundle / "engine.plan").write_bytes(changed)
    elif damage == "no identity":
        (bundle / "engine.plan.json").write_text('{"identity": null}')
    else:
        (bundle / damage.split()[1]).unlink()
    done = answered(bundle, jetson.folder / "bin" / "python3", "red.png")
    assert (done.returncode, done.stdout) == (0, "red.png\n  0.9999  red\n")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert jetson.commands() == []


def test_a_plan_that_ends_the_process_which_asks_it_leaves_1_sentence(bundle: Path, jetson: Any) -> None:
    trtexec = jetson.folder / "bin" / "trtexec"
    first, *rest = trtexec.read_text().splitlines()
    ends = "import os; '--help' in sys.argv or os.kill(os.getpid(), 11)"
    trtexec.write_text("\n".join([first, "import sys", ends, *rest]) + "\n")
    done = answered(bundle, jetson.folder / "bin" / "python3", "red.png")
    assert (done.returncode, done.stdout) == (0, "red.png\n  0.9999  red\n")
    assert "the engine engine.plan cannot be used (" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_without_an_engine_names_the_1_program_that_builds_it(bundle: Path) -> None:
    colours(bundle / "lowered.onnx")
    manifest_of(bundle, "lowered.onnx", "unbuilt ONNX for TensorRT on jetson-orin, answered by ONNX Runtime 1.31.0")
    done = answered(bundle, sys.executable, "blue.png")
    assert (done.returncode, done.stdout) == (0, "blue.png\n  0.9999  blue\n")
    assert "has no engine yet; build_on_device.py, on the device that it is for, builds one" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("differs", ["architecture", "1 feature"])
def test_an_engine_of_another_processor_is_not_opened_and_model_onnx_answers(bundle: Path, differs: str) -> None:
    here = describe_machine()
    features = here.cpu_features if differs == "architecture" else (*here.cpu_features, "of_the_future")
    architecture = "sparc" if differs == "architecture" else here.architecture
    (bundle / "engine.onnx").write_bytes(b"what no runtime may be given")
    append_stamp(bundle / "engine.onnx", Stamp("onnxruntime 1.31.0", architecture, features, 1))
    manifest_of(bundle, "engine.onnx", "onnxruntime 1.31.0")
    done = answered(bundle, sys.executable, "red.png")
    assert (done.returncode, done.stdout) == (0, "red.png\n  0.9999  red\n")
    said = f"it was built for sparc, and this machine is {here.architecture}"
    assert (said if differs == "architecture" else "with other features: +of_the_future") in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_engine_stamped_for_this_processor_answers_without_1_remark(bundle: Path) -> None:
    here = describe_machine()
    colours(bundle / "engine.onnx")
    append_stamp(bundle / "engine.onnx", Stamp("onnxruntime 1.31.0", here.architecture, here.cpu_features, 1))
    manifest_of(bundle, "engine.onnx", "onnxruntime 1.31.0")
    done = answered(bundle, sys.executable, "red.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "red.png\n  0.9999  red\n", "")
