"""A quantized network on its way to an engine; a stand-in for the device that it may be built on."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.preparation import Preparation
from pipeline.stage import Run
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from targets.errors import EngineFailed, EngineMissing, EngineRefused
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.main import JOBS, function_of

network = partial(ResNetCifar, 8, width=8, classes=4)


@pytest.fixture
def export_of(
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> Callable[..., tuple[Candidate, Candidate, Run]]:
    """Of an architecture, prepared or not: a float network, the ONNX file of its quantized child, a build's run."""

    def made(
        architecture: Callable[[], nn.Module], preparation: Preparation | None = None
    ) -> tuple[Candidate, Candidate, Run]:
        parent = candidate_in(tmp_path / "teacher", architecture, tiny_data())
        child = Quantize(training=None, preparation=preparation)(parent, run_in(tmp_path / "quantize", teacher=parent))
        return parent, Export(0.0)(child, run_in(tmp_path / "export", teacher=parent)), run_in(tmp_path / "build")

    return made


@pytest.fixture
def exported(
    export_of: Callable[..., tuple[Candidate, Candidate, Run]],
) -> tuple[Candidate, Candidate, Run]:
    """`export_of` a ResNet of three blocks."""
    return export_of(network)


FACTS = {
    "board": "NVIDIA Jetson AGX Orin (stand-in)", "gpu": "Orin (stand-in)", "compute_capability": "8.7", "l4t": None,
    "power_mode": "MAXN", "hostname": "stand-in", "architecture": "aarch64",
}  # fmt: skip
FAILURES = {"refused": EngineRefused, "failed": EngineFailed, "missing": EngineMissing}


class InThisProcess:
    """A stand-in for a device: its jobs are done in this process; trtexec is the stand-in of the tests.

    asked: every job so far · told: facts beside the others
    quick: answers come from the file that an engine was built from, by ONNX Runtime in this process: trtexec would
    start one for each input
    """

    address = "stand-in"

    def __init__(self, root: Path, **told: Any) -> None:
        self.root, self.told, self.asked = root, told, list[tuple[str, dict[str, Any]]]()
        self.quick, self.sources = True, dict[bytes, Path]()

    def facts(self) -> dict[str, Any]:
        return {**FACTS, **self.told}

    def trtexec(self, **settings: Any) -> None:
        """What stands for trtexec from now on; settings: see standin/trtexec.py."""
        (self.root / "bin").mkdir(parents=True, exist_ok=True)
        stand_in = Path(__file__).resolve().parents[2] / "targets" / "standin" / "trtexec.py"
        (self.root / "bin" / "settings.json").write_text(json.dumps({"log": str(self.root / "log"), **settings}))
        call = f'STANDIN_TRTEXEC="{self.root}/bin/settings.json" exec "{sys.executable}" "{stand_in}" "$@"'
        (self.root / "bin" / "trtexec").write_text(f"#!/bin/sh\n{call}\n")
        (self.root / "bin" / "trtexec").chmod(0o755)

    def builds(self) -> list[str]:
        """The command lines that built an engine."""
        return [line for line in (self.root / "log").read_text().splitlines() if "--onnx=" in line]

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        folder = self.root / "jobs" / str(len(self.asked))
        folder.mkdir(parents=True)
        for name, path in files.items():
            shutil.copyfile(path, folder / name)
        self.asked.append((what, dict(job)))
        if what == "answer" and self.quick and job["runtime"] == "tensorrt":
            shutil.copyfile(self.sources[(folder / job["engine"]).read_bytes()], folder / "source.onnx")
            job = {**job, "runtime": "onnxruntime", "engine": "source.onnx"}
        settings = dict(job.get("settings") or {})
        if settings.get("provider") == "cuda":  # this processor plays the GPU
            settings["provider"] = "cpu"
        try:
            found = function_of(JOBS[what])({**job, "facts": FACTS, "settings": settings}, folder)
        except OnDeviceFailure as failure:
            raise FAILURES[failure.kind](f"stand-in: {failure.sentence}") from failure
        if what == "build":
            self.sources[(folder / job["engine"]).read_bytes()] = folder / job["onnx"]
        for pattern in fetch:
            for path in folder.glob(pattern):
                assert into is not None
                shutil.copyfile(path, into / path.name)
        return found


@pytest.fixture
def in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., InThisProcess]:
    """Makes a stand-in for a device; facts can be named."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'device' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return lambda **told: InThisProcess(tmp_path / "device", **told)
