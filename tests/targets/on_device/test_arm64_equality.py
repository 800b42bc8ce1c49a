"""An INT8 network of the ARM64 scheme, built and answered by the device's part on an emulated ARM64 processor.

Its answers there are compared bit by bit with ONNX Runtime's exact kernels on x86 and with the integer reference. What
is emulated is the processor: runtime, kernels and files are those of a board.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from calibration.observe import observe
from calibration.observers.minmax import MinMax
from calibration.samples import Samples
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.functions_behind import functions_behind
from pipeline.quantization.insert import calibrated, point_name, watched
from pipeline.quantization.integer_reference import integers_of
from pipeline.quantization.lowering import lowered_for
from pipeline.stages.export import onnx_of
from targets.engines.onnx_operators import operators_of
from targets.on_device import onnx_runtime
from targets.reach.local import is_x86
from targets.schemes import ARM64
from targets.target import Scheme

SOURCES = Path(onnx_runtime.__file__).parent
SHAPE = (3, 12, 12)
ENGINE = "small.engine.onnx"
LIMIT_S = 300
EMULATOR = "qemu-aarch64-static"
# The same codes plus 128; the runtime's precision mode multiplies them exactly on every x86
EXACT_ON_X86 = replace(ARM64, signed_zero_point=128)


class Residual(nn.Module):
    """A depthwise convolution, a signed residual sum, poolings and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide, self.last = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 24, 3, padding=1)
        self.relu, self.relu6, self.most, self.mean = nn.ReLU(), nn.ReLU6(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.hidden, self.head = nn.Linear(24, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = x + self.wide(self.relu6(self.deep(x)))  # signed: no ReLU behind it
        x = self.mean(self.relu(self.last(self.most(x))))
        return self.head(self.relu(self.hidden(torch.flatten(x, 1))))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def python_of_arm64() -> str:
    """The interpreter that tools/arm64_root.py made."""
    named = os.environ.get("EDGE_COMPRESS_ARM64_ROOT")
    python = Path(named or "") / "bin" / "python3"
    missing = [
        *([] if is_x86() else ["an x86 processor"]),
        *([] if shutil.which(EMULATOR) else [f"{EMULATOR} (package qemu-user-static)"]),
        *([] if named else ["EDGE_COMPRESS_ARM64_ROOT, the folder that `tools/arm64_root.py FOLDER` made"]),
        *([f"{python}, which tools/arm64_root.py makes"] if named and not python.is_file() else []),
    ]
    if missing:
        pytest.skip(f"missing: {'; '.join(missing)}")
    return str(python)


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """16 inputs as calibrated, small, zero, and so large that every tensor saturates."""
    draw = np.random.default_rng(5).normal(size=(16, *SHAPE))
    sizes = np.repeat([1.0, 0.1, 0.0, 100.0], [10, 2, 1, 3]).reshape(-1, 1, 1, 1)
    return (sizes * draw).astype(np.float32)


@pytest.fixture(scope="module")
def canonical() -> onnx.ModelProto:
    """The network with full 8-bit weights and zero points."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Residual().eval()
    graph, placement = watched(network)
    points = {point_name(each): MinMax() for each in placement.activations}
    samples = Samples(np.random.default_rng(1).normal(size=(32, *SHAPE)).astype(np.float32), "drawn by seed")
    ranges = observe(graph, samples, points=points, affine=True, behind=functions_behind(graph))
    student, _ = calibrated(graph, placement, ranges=ranges, scheme=ARM64)
    biases_on_grid(student.eval())
    return onnx_of(student, input_shape=SHAPE)


def lowered(canonical: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """In the form that kernels of the scheme take; the last codes, in front of the float layer, are an output too."""
    model = lowered_for(canonical, scheme)
    codes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][-1]
    zero = next(each for each in model.graph.initializer if each.name == codes.input[2])
    model.graph.output.append(helper.make_tensor_value_info(codes.output[0], zero.data_type, [1, 32]))
    return model


@dataclass(frozen=True)
class Folder:
    """The folder of jobs that one interpreter does with the packed device part."""

    path: Path
    python: str
    packed: Path
    shape: tuple[int, ...]

    def does(self, what: str, **settings: Any) -> dict[str, Any]:
        """The result of a job, or its last line if it failed."""
        given = [{"name": "input", "dtype": "float32", "shape": list(self.shape), "file": "inputs.raw"}]
        job = {
            "runtime": "onnxruntime", "onnx": "small.onnx", "engine": ENGINE, "engines": [ENGINE], "inputs": given,
            "settings": {"threads": 1, **settings},
        }  # fmt: skip
        (self.path / "job.json").write_text(json.dumps(job))
        command = [self.python, str(self.packed), what, str(self.path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        assert ended.stdout, ended.stderr
        last: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return json.loads((self.path / "result.json").read_text()) if ended.returncode == 0 else last  # type: ignore[no-any-return]

    def answers(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits and the last codes."""
        outputs = self.does("answer", precision_mode=True)["outputs"]
        logits, codes = (
            np.fromfile(self.path / each["file"], dtype=each["dtype"]).reshape(each["shape"]) for each in outputs
        )
        return logits, codes


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, inputs: np.ndarray) -> Callable[[str, onnx.ModelProto], Folder]:
    """Makes a folder in which an interpreter has built the engine, every quantized product of it in integers."""
    packed = tmp_path_factory.mktemp("packed") / "on_device.pyz"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(SOURCES / "start.py", "__main__.py")
        archive.writestr("targets/__init__.py", "")
        for source in SOURCES.glob("*.py"):
            archive.write(source, f"targets/on_device/{source.name}")

    def build(python: str, model: onnx.ModelProto) -> Folder:
        folder = Folder(tmp_path_factory.mktemp("job"), python, packed, inputs.shape)
        onnx.save(model, folder.path / "small.onnx")
        inputs.tofile(folder.path / "inputs.raw")
        result = folder.does("build", precision_mode=True)
        assert result.get("files") == [ENGINE], result
        rows = operators_of(folder.path / ENGINE).rows
        assert [row.integer for row in rows] == [True] * 5 + [False]  # the last layer gives floats
        return folder

    return build


@pytest.fixture(scope="module")
def on_arm64(
    python_of_arm64: str, built: Callable[[str, onnx.ModelProto], Folder], canonical: onnx.ModelProto
) -> Folder:
    return built(python_of_arm64, lowered(canonical, ARM64))


@pytest.mark.slow
def test_16_int8_answers_on_arm64_are_the_bits_of_the_exact_kernels_on_x86(
    on_arm64: Folder,
    built: Callable[[str, onnx.ModelProto], Folder],
    canonical: onnx.ModelProto,
    inputs: np.ndarray,
) -> None:
    there, codes_there = on_arm64.answers()
    here, codes_here = built(sys.executable, lowered(canonical, EXACT_ON_X86)).answers()
    assert there.shape == (16, 10)
    assert len(np.unique(there)) > 50  # answers, not zeros
    assert there.tobytes() == here.tobytes()  # integers are exact on both: no tolerance
    model = lowered(canonical, ARM64)
    name = model.graph.output[1].name
    reference = np.concatenate([integers_of(model, {"input": inputs[i : i + 1]})[name] for i in range(16)])
    assert reference.dtype == codes_there.dtype == np.int8
    assert codes_there.tobytes() == reference.tobytes()
    assert np.array_equal(codes_there.astype(int), codes_here.astype(int) - 128)  # uint8 there, the same steps


@pytest.mark.slow
def test_times_of_an_emulated_processor_are_refused_and_named_when_1_setting_asks_for_them(on_arm64: Folder) -> None:
    refused = on_arm64.does("measure", samples=3, processes=1)
    assert (refused["event"], refused["kind"]) == ("failed", "refused")
    assert "this processor is emulated" in refused["sentence"]
    asked = on_arm64.does("measure", samples=3, processes=1, allow_emulated=True)
    assert asked["emulated"] is True
    assert asked["fresh_processes"] is True  # what the emulated Python starts is emulated too
    assert [len(run["latency_ms"]) for run in asked["runs"]] == [3]
