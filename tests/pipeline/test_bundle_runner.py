"""The runner of a bundle, run as its receiver runs it: in a process of its own, from copied files."""

from __future__ import annotations

import ast
import json
import math
import os
import shutil
import subprocess
import sys
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

CLASSES = ["red", "green", "blue"]
EVEN = Preprocess(channels=3, height=4, width=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def colour_model(path: Path, *, batch: int | str = 1) -> None:
    """Scores = 10 × the mean of each channel: a picture that is all green scores (0, 10, 0)."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "tenfold"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(10 * np.eye(3, dtype=np.float32), "tenfold")],
    )
    # Opset 17, IR 8: read by every onnxruntime since 1.12.
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    data = Path(pipeline.data.images.__file__).parent
    for name in run.BESIDE:
        shutil.copyfile(data / name, folder / name)
    for name in ("run.py", *run.OWN):
        shutil.copyfile(Path(run.__file__).parent / name, folder / name)
    colour_model(folder / "engine.onnx")
    write_manifest(folder)
    (folder / "labels.json").write_text(json.dumps(CLASSES))
    for number, name in enumerate(CLASSES):
        Image.new("RGB", (9, 7), tuple(255 if number == channel else 0 for channel in range(3))).save(
            tmp_path / f"{name}.png"
        )
    return folder


def write_manifest(folder: Path, *, preprocess: dict[str, Any] | None = EVEN.as_json(), **engine: Any) -> None:  # noqa: B008
    manifest = {
        "engine": {"file": "engine.onnx", "runtime": "onnxruntime", "threads": 1, **engine},
        "input": {"preprocess": preprocess},
        "labels": "labels.json",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def answered(folder: Path, *arguments: object, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *flags, str(folder / "run.py"), *map(str, arguments)],
        cwd=folder.parent, env={**clean, "PYTHONIOENCODING": "utf-8"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_3_images_give_their_3_colours(bundle: Path) -> None:
    done = answered(bundle, "red.png", "green.png", "blue.png", "--top", 1)
    # Scores (10, 0, 0): e¹⁰ / (e¹⁰ + 2) = 0.99991.
    assert done.stdout == "red.png\n  0.9999  red\ngreen.png\n  0.9999  green\nblue.png\n  0.9999  blue\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_an_isolated_interpreter_answers_1_image_too(bundle: Path) -> None:
    done = answered(bundle, "red.png", "--top", 1, flags=("-I",))  # which leaves the folder of run.py out of its path
    assert (done.returncode, done.stdout, done.stderr) == (0, "red.png\n  0.9999  red\n", "")


def test_json_holds_the_2_best_classes_and_their_probabilities(bundle: Path) -> None:
    done = answered(bundle, "green.png", "--top", 2, "--json", "--threads", 2)
    (answer,) = json.loads(done.stdout)
    assert answer["image"] == "green.png"
    assert [entry["class"] for entry in answer["top"]] == ["green", "red"]
    assert [entry["index"] for entry in answer["top"]] == [1, 0]
    # The softmax is in float64 of float32 scores near 10: 1e-6 of relative error at most.
    assert answer["top"][0]["probability"] == pytest.approx(math.exp(10) / (math.exp(10) + 2), rel=1e-6)
    assert answer["top"][1]["probability"] == pytest.approx(1 / (math.exp(10) + 2), rel=1e-5)


def test_beside_the_standard_library_2_packages_are_imported(bundle: Path) -> None:
    ours = {Path(name).stem for name in (*run.BESIDE, *run.OWN)} - {"plan_answers"}  # for TensorRT alone

    def imported(*command: str) -> set[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command],
            cwd=bundle.parent, env=clean, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:") and "|" in line]
        return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines[1:]}

    of_the_run = imported(str(bundle / "run.py"), "green.png")
    of_the_two = imported("-c", "import numpy, onnxruntime")  # with what this interpreter loads at its start
    assert ours | {"numpy", "onnxruntime"} <= of_the_run
    assert of_the_run - of_the_two - ours - set(sys.stdlib_module_names) == set()
    assert not of_the_run & {"PIL", "torch", "onnx", "pipeline", "targets", "calibration"}


def test_1_missing_image_of_2_is_a_sentence_and_exit_code_2(bundle: Path) -> None:
    done = answered(bundle, "none.png", "red.png", "--top", 1)
    assert done.returncode == 2
    assert done.stderr == "run.py: Image none.png cannot be read: No such file or directory.\n"
    assert "red.png\n  0.9999  red\n" in done.stdout


def test_1_damaged_image_is_a_sentence_and_exit_code_2(bundle: Path) -> None:
    whole = (bundle.parent / "red.png").read_bytes()
    (bundle.parent / "half.png").write_bytes(whole[: len(whole) // 2])
    done = answered(bundle, "half.png", "--json")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "half.png is not a readable PNG file" in done.stderr
    assert "half.png" in json.loads(done.stdout)[0]["error"]


@pytest.mark.parametrize("damage", ["absent", "damaged", "for another runtime"])
def test_an_engine_that_does_not_load_leaves_the_answer_to_model_onnx_in_3_cases(bundle: Path, damage: str) -> None:
    colour_model(bundle / "model.onnx")
    if damage == "absent":
        (bundle / "engine.onnx").unlink()
    elif damage == "damaged":
        (bundle / "engine.onnx").write_bytes(b"not an engine")
    else:
        write_manifest(bundle, runtime="tensorrt 10.3")
    done = answered(bundle, "blue.png", "--top", 1)
    assert (done.returncode, done.stdout) == (0, "blue.png\n  0.9999  blue\n")
    assert "model.onnx answers instead" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_engine_and_no_model_onnx_is_exit_code_2(bundle: Path) -> None:
    (bundle / "engine.onnx").unlink()
    done = answered(bundle, "blue.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no model.onnx beside it" in done.stderr


def test_without_onnxruntime_1_sentence_says_how_to_install_it(bundle: Path) -> None:
    write_manifest(bundle, runtime="onnxruntime 1.31.0")
    done = answered(bundle, "blue.png", flags=("-S",))  # -S: no installed packages at all
    assert done.returncode == 2
    assert "-m pip install onnxruntime==1.31.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_copied_without_2_of_its_files_names_both(bundle: Path) -> None:
    (bundle / "images.py").unlink()
    (bundle / "jpeg_scan.py").unlink()
    done = answered(bundle, "blue.png")
    assert done.returncode == 2
    assert "images.py, jpeg_scan.py must stand in" in done.stderr


def test_a_network_without_images_answers_an_array_of_48_numbers(bundle: Path) -> None:
    write_manifest(bundle, preprocess=None)
    array = np.zeros((3, 4, 4), np.float32)
    array[2] = 1
    np.save(bundle.parent / "blue.npy", array)
    done = answered(bundle, "blue.npy", "--top", 1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "blue.npy\n  0.9999  blue\n", "")
    np.save(bundle.parent / "wrong.npy", array[:2])
    done = answered(bundle, "wrong.npy", "blue.png")
    assert done.returncode == 2
    assert "the engine takes [1, 3, 4, 4] and got [1, 2, 4, 4]" in done.stderr
    assert "blue.png cannot be read as a .npy file" in done.stderr


def test_an_engine_of_words_takes_whole_numbers_of_any_type_and_no_half(bundle: Path) -> None:
    nodes = [helper.make_node("Gather", ["tenfold", "word"], ["row"]), helper.make_node("Flatten", ["row"], ["scores"])]
    graph = helper.make_graph(
        nodes, "words", [helper.make_tensor_value_info("word", TensorProto.INT64, [1, 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(10 * np.eye(3, dtype=np.float32), "tenfold")],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), bundle / "engine.onnx"
    )
    write_manifest(bundle, preprocess=None)
    for name, value in (("long", np.int64(2)), ("short", np.int32(2)), ("float", np.float32(2)), ("half", 0.5)):
        np.save(bundle.parent / f"{name}.npy", np.array([value]))
    done = answered(bundle, "long.npy", "short.npy", "float.npy", "half.npy", "--top", 1)
    assert done.returncode == 2
    assert done.stdout == "".join(f"{name}.npy\n  0.9999  blue\n" for name in ("long", "short", "float"))
    assert "half.npy: the engine takes whole numbers (int64); this float64 holds others" in done.stderr


@pytest.mark.parametrize("batch", [4, "N"])
def test_an_engine_of_batch_4_or_of_any_answers_1_image(bundle: Path, batch: int | str) -> None:
    colour_model(bundle / "engine.onnx", batch=batch)
    done = answered(bundle, "green.png", "--top", 1)
    assert (done.returncode, done.stdout) == (0, "green.png\n  0.9999  green\n")


def test_classes_without_labels_are_numbered_from_0(bundle: Path) -> None:
    (bundle / "labels.json").write_text(json.dumps(["red"]))
    assert answered(bundle, "blue.png", "--top", 1).stdout == "blue.png\n  0.9999  class 2\n"


def test_the_11_files_of_a_bundle_keep_to_the_grammar_of_python_3_8(bundle: Path) -> None:
    files = sorted(bundle.glob("*.py"))
    assert len(files) == 11
    for file in files:
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_top_0_and_no_image_are_wrong_usage_with_exit_code_2(bundle: Path) -> None:
    assert answered(bundle, "red.png", "--top", 0).returncode == 2
    assert answered(bundle).returncode == 2
