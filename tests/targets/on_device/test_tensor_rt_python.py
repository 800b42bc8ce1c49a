"""TensorRT through Python, against stand-ins for `tensorrt` (names as recorded of each version) and for libcudart."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from targets.on_device import cudart
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt import answer, build, layers, measure, memory
from targets.on_device.tensor_rt_numbers import as_float32

HERE = Path(__file__).parent
FACTS = {"board": "a board", "gpu": "Stand-in GPU", "compute_capability": "8.7", "l4t": "36.4.3"}
QUICK = {"with": "python", "warm_up_ms": 0, "seconds": 0, "iterations": 299, "processes": 1, "profiled": 3}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for libcudart, compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("missing: gcc, which compiles the stand-in for libcudart")
    place = tmp_path_factory.mktemp("cuda") / "libcudart.so"
    source = str(HERE / "standin_cudart.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(place), source], check=True, timeout=60)
    return place


@pytest.fixture
def device(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Device":
    """A folder in which Python finds the stand-ins."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    monkeypatch.setenv("PYTHONPATH", str(HERE / "standin_python"))
    found = Device(tmp_path, monkeypatch)
    found.has(version="10.3.0")
    return found


class Device:
    """The job's folder, and what the stand-in for tensorrt is to be like."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        (folder / "m.onnx").write_text("a network")
        (folder / "x.bin").write_bytes(struct.pack("<9f", *range(9)))
        self.inputs = [{"name": "x", "dtype": "float32", "shape": [3, 3], "file": "x.bin"}]
        self.identity: dict[str, Any] = {}

    def has(self, **settings: Any) -> None:
        """Settings of the stand-in."""
        (self.folder / "standin.json").write_text(json.dumps(settings))
        self.monkeypatch.setenv("STANDIN_TENSORRT", str(self.folder / "standin.json"))

    def builds(self, **settings: Any) -> dict[str, Any]:
        """The result of a build, and what was asked of the builder as "asked"."""
        job = {"onnx": "m.onnx", "engine": "m.plan", "settings": {**QUICK, **settings}, "facts": FACTS}
        found = build(job, self.folder)
        self.identity = found["identity"]
        return {**found, "asked": json.loads((self.folder / "m.plan").read_bytes()[len("STAND-IN PLAN ") :])}

    def job(self, **more: Any) -> dict[str, Any]:
        """A job on the engine that was built."""
        return {
            "engine": "m.plan", "engines": ["m.plan"], "inputs": self.inputs, "count": 3, "settings": QUICK,
            "facts": FACTS, "identity": self.identity, **more,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "settings", "flags", "strong"),
    [
        ("10.3.0", {"mode": "int8", "typed": "weak"}, ["FP16", "INT8"], False),
        ("10.3.0", {"mode": "float", "typed": "weak"}, ["FP16"], False),
        ("10.13.3.9", {"mode": "int8", "typed": "strong"}, [], True),
        ("10.16.1.11", {"mode": "int8", "sparsity": True}, ["FP16", "INT8", "SPARSE_WEIGHTS"], False),
        ("11.4.0.106", {"mode": "int8", "typed": "weak"}, [], True),
        ("11.4.0.106", {"mode": "float", "sparsity": True}, ["SPARSE_WEIGHTS"], True),
    ],
)
def test_each_of_4_versions_gets_the_flags_that_it_has(
    device: Device, version: str, settings: dict[str, Any], flags: list[str], strong: bool
) -> None:
    device.has(version=version)
    found = device.builds(**settings, workspace_mb=64)
    assert found["asked"]["flags"] == flags
    assert found["asked"]["strongly_typed"] is strong
    assert found["asked"]["WORKSPACE"] == 64 * 1024 * 1024
    assert found["runtime"] == "tensorrt " + ".".join(version.split(".")[:3])


def test_a_build_names_its_2_layers_its_device_and_its_steps(device: Device, capfd: pytest.CaptureFixture[str]) -> None:
    found = device.builds()
    assert [(row["name"], row["kind"], row["integer"]) for row in found["layers"]] == [
        ("reformat", "Reformat", False),
        ("conv1", "Convolution", True),
    ]
    assert found["identity"]["gpu"] == "Stand-in GPU"
    assert found["identity"]["runtime"] == "tensorrt 10.3.0"
    steps = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(step["done"], step["of"], step["what"]) for step in steps] == [
        (1, 2, "Building Engine"),
        (2, 2, "Building Engine"),
    ]


def test_the_second_build_starts_from_the_times_that_the_first_1_kept(device: Device) -> None:
    assert device.builds()["asked"]["cache"] == ""
    assert device.builds()["asked"]["cache"] == "+1 build"


@pytest.mark.parametrize("kind", ["FLOAT", "HALF", "INT32"])
def test_3_inputs_in_batches_of_2_are_answered_in_1_process(device: Device, kind: str) -> None:
    device.has(version="10.3.0", output=kind)
    device.builds()
    found = answer(device.job(), device.folder)["outputs"]
    assert [(row["name"], row["dtype"], row["shape"]) for row in found] == [("y", "float32", [3, 3])]
    raw = (device.folder / found[0]["file"]).read_bytes()
    assert struct.unpack("<9f", raw) == tuple(2.0 * value for value in range(9))


def test_compute_is_1_step_of_the_clock_and_latency_with_transfers_3(device: Device) -> None:
    device.builds()
    found = measure(device.job(), device.folder)
    run = found["runs"][0]
    assert (set(run["compute_ms"]), set(run["latency_ms"])) == ({0.25}, {0.75})
    assert (len(run["compute_ms"]), len(run["latency_ms"])) == (299, 299)
    assert run["graph"] is True
    assert found["unstable"] == []


def test_an_engine_that_cannot_be_recorded_is_timed_299_times_without_a_graph(
    device: Device, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    device.builds()
    monkeypatch.setenv("STANDIN_CUDART_FAILS", "cudaStreamEndCapture")
    run = measure(device.job(), device.folder)["runs"][0]
    assert run["graph"] is False
    assert len(run["compute_ms"]) == 299
    assert "m.plan cannot be recorded as a CUDA graph" in capfd.readouterr().out


def test_layers_have_the_medians_0_5_and_0_125_ms_and_memory_grows_by_2_places(device: Device) -> None:
    device.builds()
    rows = layers(device.job(), device.folder)["layers"]
    assert {row["name"]: row["median_ms"] for row in rows} == {"conv1": 0.5, "reformat": 0.125}
    found = memory(device.job(), device.folder)
    assert found["gpu_bytes"] == 2 * 2 * 3 * 4
    assert found["peak_bytes"] > found["gpu_bytes"]


def test_a_parser_that_refuses_1_node_is_quoted_with_its_name(device: Device) -> None:
    device.has(version="10.3.0", refuses="Non-zero zero point is not supported")
    with pytest.raises(OnDeviceFailure) as failure:
        device.builds()
    assert failure.value.kind == "refused"
    assert "Non-zero zero point is not supported (node conv1, QuantizeLinear)" in failure.value.sentence


@pytest.mark.parametrize(("number", "words"), [(9, "was killed: out of memory"), (11, "segmentation fault")])
def test_a_builder_that_signal_9_or_11_ends_is_told_in_words(device: Device, number: int, words: str) -> None:
    device.has(version="10.3.0", dies=number)
    with pytest.raises(OnDeviceFailure) as failure:
        device.builds()
    assert failure.value.kind == "failed"
    assert words in failure.value.sentence


def test_an_engine_of_10_3_is_refused_by_10_13_and_one_that_is_damaged_by_both(device: Device) -> None:
    device.builds()
    device.has(version="10.13.3.9")
    with pytest.raises(OnDeviceFailure, match=r"was tensorrt 10\.3\.0, here it is tensorrt 10\.13\.3") as failure:
        answer(device.job(), device.folder)
    assert failure.value.kind == "refused"
    device.has(version="10.3.0")
    (device.folder / "m.plan").write_bytes(b"something else")
    with pytest.raises(OnDeviceFailure, match=r"does not open m\.plan"):
        answer(device.job(), device.folder)


def test_a_gpu_without_memory_says_so_with_error_2(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.builds()
    monkeypatch.setenv("STANDIN_CUDART_FAILS", "cudaMalloc")
    with pytest.raises(OnDeviceFailure, match=r"cudaMalloc failed: out of memory \(2\)"):
        answer(device.job(), device.folder)


def test_cuda_of_the_stand_in_has_every_1_of_the_functions_that_are_called(library: Path) -> None:
    cuda = cudart.open_cuda(str(library))
    assert cuda.device() == {"gpu": "Stand-in GPU", "compute_capability": "8.7"}
    with pytest.raises(OnDeviceFailure, match="libnothing"):
        cudart.open_cuda("libnothing.so.1")


def test_1_5_is_1_5_in_each_type_of_real_numbers() -> None:
    wanted = struct.pack("<f", 1.5)
    assert as_float32(struct.pack("<e", 1.5), kind="HALF") == wanted
    assert as_float32(wanted[2:], kind="BF16") == wanted  # a bfloat16 is the upper half; 1.5 has nothing below it
    assert as_float32(wanted, kind="FLOAT") == wanted
    assert as_float32(struct.pack("<q", -3), kind="INT64") == struct.pack("<f", -3.0)


def test_the_stand_in_for_11_4_has_no_flag_fp16(device: Device) -> None:
    device.has(version="11.4.0.106")
    ask = "import tensorrt; tensorrt.BuilderFlag.FP16"
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert "AttributeError" in found.stderr
