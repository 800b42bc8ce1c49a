"""Tiny whole runs of the loop through a device: this machine, or a stand-in Jetson on it; no ssh between. Bundles."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.compress import compress
from pipeline.data.dataset import Dataset
from pipeline.integrity import digests_of, sums_text
from pipeline.journey import Journey
from pipeline.models.convnet import ConvNet
from pipeline.plan import Plan
from pipeline.progress import Quiet
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import Sgd
from pipeline.workers import Workers
from targets.budget import Budget, Limit
from targets.engines.elsewhere import Elsewhere
from targets.find import target_named
from targets.reach.device import Device
from targets.reach.local import is_x86
from targets.reach.this_machine import Here, this_machine
from targets.target import Target

WIDE = 64  # inputs of the networks of bundles that a gate compares
STANDIN = Path(__file__).resolve().parents[2] / "targets" / "standin" / "jetson_standin.py"


class StandInHere(Here):
    """This machine through the Python of a stand-in, which tells every job where its device is."""

    shown = "the stand-in Jetson"

    def __init__(self, folder: Path, python: str) -> None:
        super().__init__(folder)
        self.python = python


@dataclass(frozen=True)
class Ran:
    """A finished run."""

    plan: Plan
    journey: Journey
    dataset: Dataset

    @property
    def bundle(self) -> Path:
        return self.plan.bundle


Runs = Callable[..., Ran]


@pytest.fixture(scope="session")
def two_pictures(tiny_data: Callable[..., Dataset]) -> Dataset:
    """Few test inputs, because the stand-in for trtexec starts a process for each."""
    return tiny_data((3, 8, 8), counts=(64, 32, 2))


@pytest.fixture(scope="session")
def ran(two_pictures: Dataset, alone: Workers) -> Runs:
    """Runs a small recipe for a target, post-training quantization of a teacher of two epochs."""

    def run(out: Path, target: Target, *limits: Limit, data: Dataset | None = None) -> Ran:
        dataset = data or two_pictures
        recipe = Recipe(
            name="two-pictures",
            data=partial(given, dataset=dataset),
            teacher=Teacher(
                partial(ConvNet, channels=3, classes=4), training=Training(epochs=4, optimizer=Sgd(lr=0.05))
            ),
            stages=(Quantize(training=None), Export(0.5), Build(0.5, float_kernels=False)),
        )
        plan = Plan(recipe=recipe, target=target, budget=Budget(limits) if limits else target.budget, out=out)
        return Ran(plan, compress(plan, workers=alone, progress=Quiet()), dataset)

    return run


def given(folder: Path | None, *, cache: Path, dataset: Dataset) -> Dataset:
    return dataset


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Device]:
    """This machine as a device, an x86."""
    if not is_x86():
        pytest.skip("an x86 processor is missing: this machine is the device x86-cpu of the test")
    with this_machine(tmp_path / "device") as device:
        yield device


@pytest.fixture(scope="session")
def jetson_module() -> Any:
    """The file that makes stand-in Jetsons."""
    spec = importlib.util.spec_from_file_location("jetson_standin", STANDIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def jetson_in(jetson_module: Any) -> Callable[..., tuple[Any, Device]]:
    """Makes a stand-in Jetson Orin Nano in a folder, and the device that is reached; settings are its trtexec's."""

    def make(folder: Path, **settings: Any) -> tuple[Any, Device]:
        board = jetson_module.jetson_in(folder / "stand-in", **settings)
        way = StandInHere(folder / "kept", str(board.folder / "bin" / "python3"))
        return board, Device(way, address="the stand-in Jetson", patience_s=0)

    return make


@pytest.fixture(scope="session")
def away() -> Callable[[str], Target]:
    """A target that is not here, whatever this machine is."""
    return lambda name: replace(target_named(name), is_here=lambda: False)


@pytest.fixture
def ends() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a bundle's own build_on_device.py as a device does: no package of ours on its path."""

    def run(bundle: Path, *arguments: str, python: str = sys.executable) -> "subprocess.CompletedProcess[str]":
        command = [python, "-P", str(bundle / "build_on_device.py"), *arguments]
        return subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def bundle_in() -> Callable[..., Path]:
    """Makes the least that is a bundle, see made_bundle."""
    return made_bundle


def made_bundle(folder: Path, *, target: Target, layers: int = 1, right: int = 90, **settings: Any) -> Path:
    """The least that is a bundle, its engine built on the device; `right` of 100 stored answers are."""
    folder.mkdir()
    network(folder / "model.onnx", layers=layers)
    engine = target.engine
    file = folder / f"engine{engine.suffix}"
    if isinstance(engine, Elsewhere):
        engine = replace(engine, settings={**engine.settings, **settings})
        engine.build(folder / "model.onnx", file, threads=1)
        runtime = engine.runtime
    else:
        runtime = "tensorrt 10.3.0"
        file.write_bytes(b"an engine that nobody opens here" * layers)
    inputs = np.random.default_rng(1).normal(size=(4, WIDE)).astype(np.float32)
    np.savez(folder / "examples.npz", inputs=inputs, outputs=np.zeros((4, WIDE), np.float32))
    for name in ("run.py", "labels.json"):
        (folder / name).write_text("0\n")
    manifest = {
        "schema": 1, "target": {"name": target.name}, "engine": {"file": file.name, "runtime": runtime, "threads": 1},
        "examples": "examples.npz", "labels": "labels.json", "input": {"shape": ["N", WIDE], "dtype": "float32"},
        "data": {"digest": "that of these tests"},
        "stages": [{"measurement": {"accuracy": {"scores": [1.0] * right + [0.0] * (100 - right)}}}],
        "files": digests_of(folder),
    }  # fmt: skip
    text = json.dumps(manifest)
    (folder / "manifest.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "SHA256SUMS").write_text(sums_text(manifest["files"], manifest=digest))  # type: ignore[arg-type]
    return folder


def network(path: Path, *, layers: int) -> Path:
    """So many dense layers."""
    weights = np.random.default_rng(0).normal(size=(WIDE, WIDE)).astype(np.float32) / 8
    names = ["input", *(f"hidden{n}" for n in range(1, layers)), "output"]
    nodes = [helper.make_node("Gemm", [names[n], "w"], [names[n + 1]], name=f"layer{n}") for n in range(layers)]
    doors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDE]) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "dense", doors[:1], doors[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
