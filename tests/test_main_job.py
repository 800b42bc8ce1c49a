"""The main job itself, `compress --target x86-cpu`, as a user starts it; and what is left in the bundle."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

STAGES = ["teacher", "distill", "prune", "quantize", "export", "build"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("main")
    ended = compress(folder, "--target", "x86-cpu", "--json")
    told: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == told["exit_code"], ended.stderr
    return told | {"folder": folder}


def compress(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_6_rows_of_digits_are_measured_and_the_accuracy_of_the_engine_is_within_1_point(
    told: dict[str, Any],
) -> None:
    assert [row["name"] for row in told["stages"]] == STAGES
    assert all(row["accuracy_n"] == 850 for row in told["stages"])
    assert told["stages"][0]["accuracy"] > 0.95
    assert told["accuracy_drop_points"] <= 1.0
    assert told["stages"][-1]["macs"] < told["stages"][1]["macs"] < told["stages"][0]["macs"]
    assert told["engine"]["integer_ops"] + told["engine"]["float_ops"] == 10
    manifest = json.loads((told["folder"] / told["bundle"] / "manifest.json").read_text())
    quantized = [row for row in manifest["engine"]["operators"] if row["integer"] or "slower here" in row["why"]]
    assert len(quantized) == 9  # nine convolutions, with the kernel that is the faster one; the last layer is float
    assert [verdict["limit"] for verdict in told["verdicts"]] == [
        "max_latency_ms", "min_speedup", "max_accuracy_drop_points",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_bundle_verifies_bit_by_bit_and_answers_9_of_10_pictures_of_digits(told: dict[str, Any]) -> None:
    verified = compress(told["folder"], "verify", told["bundle"])
    assert verified.returncode == 0, verified.stdout + verified.stderr
    digits = load_digits()
    right = 0
    for place in range(10):
        picture = told["folder"] / f"{place}.png"
        Image.fromarray((digits.images[place] * (255 / 16)).astype(np.uint8)).save(picture)
        answered = compress(told["folder"], "run", told["bundle"], "--input", str(picture), "--json", "--top", "1")
        assert answered.returncode == 0, answered.stderr
        right += f'"{digits.target[place]}"' in answered.stdout
    assert right >= 9


@pytest.mark.slow
def test_running_it_again_reuses_all_6_stages_and_says_the_same(told: dict[str, Any]) -> None:
    again = json.loads(compress(told["folder"], "--target", "x86-cpu", "--json").stdout)
    assert [row["reused"] for row in again["stages"]] == [True] * 6
    assert [row["accuracy"] for row in again["stages"]] == [row["accuracy"] for row in told["stages"]]
    assert again["speedup"] == told["speedup"]
