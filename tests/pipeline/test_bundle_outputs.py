"""The runner of a bundle of a detector: each output by name, shape and range, and all numbers of it in a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pipeline.data.images
from pipeline.handover import run
from pipeline.handover.shown_answers import lines_of, summaries


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two outputs for an array of 4 numbers: `double` (1, 4) twice the input, `pairs` (1, 2, 2) the input."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in run.BESIDE:
        shutil.copyfile(Path(pipeline.data.images.__file__).parent / name, folder / name)
    for name in ("run.py", *run.OWN):
        shutil.copyfile(Path(run.__file__).parent / name, folder / name)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["double"]), helper.make_node("Reshape", ["x", "shape"], ["pairs"])],
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("double", "pairs")],
        [helper.make_tensor("shape", TensorProto.INT64, [3], [1, 2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "engine.onnx")
    manifest = {
        "engine": {"file": "engine.onnx", "runtime": "onnxruntime", "threads": 1},
        "input": {"preprocess": None}, "labels": "labels.json", "classes": 0,
        "outputs": [{"name": "double", "shape": [1, 4]}, {"name": "pairs", "shape": [1, 2, 2]}],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "labels.json").write_text("[]")
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", np.arange(4, dtype=np.float32) + number)
    return folder


def answered(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, str(folder / "run.py"), *arguments],
        cwd=folder.parent, env=clean, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_2_outputs_of_2_files_are_summed_up_and_saved_by_name_and_place(bundle: Path) -> None:
    ended = answered(bundle, "0.npy", "1.npy", "--save", "all.npz")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "0.npy", "  double  1x4  0 to 6, mean 3", "  pairs  1x2x2  0 to 3, mean 1.5",
        "1.npy", "  double  1x4  2 to 8, mean 5", "  pairs  1x2x2  1 to 4, mean 2.5",
    ]  # fmt: skip
    with np.load(bundle.parent / "all.npz") as saved:
        assert sorted(saved) == ["double/0", "double/1", "pairs/0", "pairs/1"]
        assert saved["pairs/1"].tolist() == [[[1, 2], [3, 4]]]


def test_json_holds_the_2_outputs_and_no_classes(bundle: Path) -> None:
    told: Any = json.loads(answered(bundle, "0.npy", "--json").stdout)
    assert [each["name"] for each in told[0]["outputs"]] == ["double", "pairs"]
    assert told[0]["outputs"][1] == {"name": "pairs", "shape": [1, 2, 2], "least": 0, "mean": 1.5, "largest": 3}
    assert "top" not in told[0]


def test_a_file_that_cannot_be_written_is_1_sentence_and_exit_code_2(bundle: Path) -> None:
    ended = answered(bundle, "0.npy", "--save", "nowhere/all.npz")
    assert ended.returncode == 2
    assert "nowhere/all.npz cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_nan_has_no_figures() -> None:
    told = summaries({"y": np.array([[1.0, np.nan]])})
    assert told == [{"name": "y", "shape": [1, 2], "least": None, "mean": None, "largest": None}]
    assert lines_of({"outputs": told}) == ["  y  1x2  holds a NaN or an infinity"]
