"""A bundle whose engine is OpenVINO's: written, verified and run, with the package and without it."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.bundle import write_bundle
from pipeline.verify import answer_with_bundle, verify_bundle
from targets.engines.openvino import OpenVino
from targets.errors import EngineMissing

ENGINE = OpenVino()


@pytest.fixture
def bundle(finished: Any) -> Path:
    """The bundle of the finished run, its engine built again in OpenVINO."""
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    built = finished.journey.last.candidate
    path = built.path.with_suffix(ENGINE.suffix)
    ENGINE.build(built.parent.path, path, threads=1)
    last = replace(built, path=path, facts={**built.facts, "runtime": ENGINE.runtime})
    rows = (*finished.journey.results[:-1], replace(finished.journey.last, candidate=last))
    return write_bundle(finished.plan, replace(finished.journey, results=rows), dataset=finished.dataset)


def test_its_16_answers_are_those_of_openvino_and_the_manifest_and_report_name_it(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["engine"]["file"], manifest["engine"]["runtime"]) == ("engine.openvino", ENGINE.runtime)
    assert manifest["engine"]["integer_ops"] == 1
    assert any(row["kind"].startswith("Convolution") for row in manifest["engine"]["operators"])
    assert manifest["engine"]["layer_times"]
    with np.load(bundle / "examples.npz") as stored, closing(ENGINE.open(bundle / "engine.openvino", threads=1)) as ask:
        assert np.array_equal(ask(stored["inputs"]), stored["outputs"])
    wanted = ENGINE.runtime.replace(" ", "==")
    assert f"pip install numpy {wanted}" in (bundle / "report.md").read_text()
    found = verify_bundle(bundle)
    assert (found.exit_code, found.identical, found.asked) == (0, True, "engine.openvino")


def test_run_answers_a_red_picture_and_leaves_0_remarks(bundle: Path, capfd: Any, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (250, 10, 10)).save(tmp_path / "red.png")
    assert answer_with_bundle(bundle, [tmp_path / "red.png"], top=2, threads=1, as_json=True) == 0
    said = capfd.readouterr()
    assert len(json.loads(said.out)[0]["top"]) == 2
    assert said.err == ""


@pytest.mark.parametrize("damage", ["another version", "1 byte"])
def test_a_foreign_or_damaged_engine_leaves_the_answer_to_model_onnx(
    bundle: Path, capfd: Any, tmp_path: Path, damage: str
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(bundle, copied)
    engine = (copied / "engine.openvino").read_bytes()
    if damage == "1 byte":
        changed = engine[:1000] + bytes([engine[1000] ^ 1]) + engine[1001:]
    else:
        changed = engine.replace(ENGINE.runtime.encode(), b"openvino 2020.1.0")
    assert changed != engine
    (copied / "engine.openvino").write_bytes(changed)
    Image.new("RGB", (20, 10), (250, 10, 10)).save(tmp_path / "red.png")
    assert run_py(copied, tmp_path / "red.png") == 0
    said = capfd.readouterr().err
    assert "model.onnx answers instead" in said
    assert ("it is damaged" if damage == "1 byte" else "it was built by openvino 2020.1.0") in said


def test_without_the_package_1_sentence_names_it(bundle: Path, capfd: Any, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "openvino.py").write_text("raise ImportError('hidden')")
    Image.new("RGB", (20, 10), (250, 10, 10)).save(tmp_path / "red.png")
    assert run_py(bundle, tmp_path / "red.png", first_on_the_path=hidden) == 0
    said = capfd.readouterr().err
    assert f"-m pip install {ENGINE.runtime.replace(' ', '==')}" in said
    assert said.count("\n") == 1


def test_verify_without_the_package_asks_model_onnx_and_gives_3(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise EngineMissing("OpenVINO cannot be imported. Install it with: pip install 'edge-compress[openvino]'")

    monkeypatch.setattr("targets.engines.openvino.openvino_module", missing)
    found = verify_bundle(bundle)
    assert (found.exit_code, found.asked) == (3, "model.onnx")
    assert any("pip install 'edge-compress[openvino]'" in remark for remark in found.remarks)


def run_py(folder: Path, picture: Path, *, first_on_the_path: Path | None = None) -> int:
    paths = [str(first_on_the_path)] if first_on_the_path else []
    paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-B", str(folder / "run.py"), str(picture)]
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode
