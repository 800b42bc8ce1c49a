"""TensorRT through a stand-in for trtexec that takes and refuses the options of its version, as a job does it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.on_device.failures import OnDeviceFailure
from targets.on_device.tensor_rt import answer, build, layers, measure, memory
from targets.on_device.tensor_rt_rounds import Timed, rounds
from targets.on_device.tensor_rt_versions import REMOVED_IN_11

STANDIN = Path(__file__).resolve().parents[1] / "standin" / "trtexec.py"
FACTS = {"board": None, "gpu": "Orin (stand-in)", "compute_capability": "8.7", "l4t": None, "power_mode": "25W"}
QUICK = {"with": "trtexec", "warm_up_ms": 0, "seconds": 0.01, "iterations": 299, "processes": 1}
COUNT = 2


class Device:
    """The job's folder, with trtexec on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tool, self.log = folder / "jobs" / "1", folder / "bin", folder / "log"
        self.folder.mkdir(parents=True)
        self.tool.mkdir()
        self.identities: dict[str, dict[str, Any]] = {}
        network(self.folder / "m.onnx")
        self.values = np.random.default_rng(0).normal(size=(COUNT, 2, 4, 4)).astype(np.float32)
        self.values.tofile(self.folder / "x.bin")
        self.inputs = [{"name": "x", "dtype": "float32", "shape": [COUNT, 2, 4, 4], "file": "x.bin"}]

    def has(self, version: str = "10.3.0", **settings: Any) -> None:
        """This trtexec, the stand-in with these settings."""
        content = {"tensorrt": version, "log": str(self.log), **settings}
        (self.tool / "settings.json").write_text(json.dumps(content))
        call = f'STANDIN_TRTEXEC="{self.tool}/settings.json" exec "{sys.executable}" "{STANDIN}" "$@"'
        self.runs(call)

    def runs(self, lines: str) -> None:
        """A trtexec of these lines."""
        (self.tool / "trtexec").write_text(f"#!/bin/sh\n{lines}\n")
        (self.tool / "trtexec").chmod(0o755)

    def builds(self, engine: str = "m.plan", **settings: Any) -> dict[str, Any]:
        """The result of a build."""
        job = {"onnx": "m.onnx", "engine": engine, "settings": {**QUICK, **settings}, "facts": FACTS}
        found = build(job, self.folder)
        self.identities[engine] = found["identity"]
        return found

    def job(self, **more: Any) -> dict[str, Any]:
        """A job on the engines that were built."""
        return {
            "engine": "m.plan", "engines": list(self.identities), "inputs": self.inputs, "count": COUNT,
            "settings": QUICK, "facts": FACTS, "identities": self.identities, **more,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Every command line so far, but those that ask for the version."""
        return [line for line in self.log.read_text().splitlines() if not line.endswith("--help")]


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    found = Device(tmp_path)
    found.has()
    monkeypatch.setenv("PATH", f"{found.tool}{os.pathsep}{os.environ['PATH']}")
    return found


def network(path: Path) -> None:
    """A Conv with Q/DQ around it as TensorRT takes it, int8 around 0, and a Relu."""
    constants = [
        numpy_helper.from_array(np.float32(0.05), "s"),
        numpy_helper.from_array(np.int8(0), "z"),
        numpy_helper.from_array(np.arange(-9, 9, dtype=np.int8).reshape(1, 2, 3, 3), "w"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dq"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], name="wdq"),
        helper.make_node("Conv", ["xd", "wd"], ["c"], name="conv"),
        helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])
    graph = helper.make_graph(nodes, "m", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("version", ["8.5.2", "10.3.0", "11.4.1"])
def test_all_5_jobs_go_through_the_trtexec_of_each_version(device: Device, version: str) -> None:
    device.has(version)
    found = device.builds()
    assert found["runtime"] == f"tensorrt {version}"
    assert found["counts"]["integer"] == 1
    answers = answer(device.job(), device.folder)
    assert [(row["name"], row["shape"]) for row in answers["outputs"]] == [("y", [COUNT, 1, 2, 2])]
    here = np.fromfile(device.folder / answers["outputs"][0]["file"], np.float32).reshape(COUNT, 1, 2, 2)
    session = onnxruntime.InferenceSession(device.folder / "m.onnx", providers=["CPUExecutionProvider"])
    wanted = np.concatenate([session.run(None, {"x": value[None]})[0] for value in device.values])
    # 8.5 writes text alone: six digits, so half a unit of the sixth; later ones the numbers themselves
    assert np.allclose(here, wanted, rtol=1e-5 if version == "8.5.2" else 1e-6, atol=1e-6)
    assert answers["digits"] == (6 if version == "8.5.2" else None)
    run = measure(device.job(), device.folder)["runs"][0]
    assert len(run["compute_ms"]) == len(run["latency_ms"]) == 299
    assert min(run["latency_ms"]) > min(run["compute_ms"])  # the stand-in adds 3 % for transfers
    rows = layers(device.job(), device.folder)["layers"]
    assert all(row["median_ms"] > 0 for row in rows)
    assert memory(device.job(), device.folder)["peak_bytes"] > 0
    passed = {part.split("=")[0] for line in device.lines() for part in line.split()}
    assert bool(passed & set(REMOVED_IN_11)) is (version != "11.4.1")


def test_2_engines_are_timed_in_turns_in_20_rounds_whose_order_the_seed_draws(tmp_path: Path) -> None:
    asked: list[tuple[str, bool]] = []

    def once(engine: str, *, transfers: bool, graph: bool) -> Timed:
        asked.append((engine, transfers))
        return Timed((1.0,) * 299, (2.0,) * 299, graph=graph)

    job: dict[str, Any] = {"engines": ["a.plan", "b.plan"]}
    orders = []
    for seed in (1, 1, 2):
        job["settings"] = {"processes": 20, "seed": seed}
        runs = rounds(job, tmp_path, once)["runs"]
        assert [run["process"] for run in runs] == [process for process in range(20) for _ in range(2)]
        orders.append([run["engine"] for run in runs])
        assert all(orders[-1][place] != orders[-1][place + 1] for place in range(0, 40, 2))
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0][::2]) == {"a.plan", "b.plan"}  # each of the two is the first of some round
    assert [transfers for _, transfers in asked[:4]] == [False, True, False, True]


def test_times_that_vary_by_8_percent_are_unstable_and_the_reason_is_told(device: Device) -> None:
    device.has(variation=0.08)
    device.builds()
    reasons = measure(device.job(), device.folder)["unstable"]
    assert any("m.plan, process 0" in reason and "vary" in reason for reason in reasons)
    assert any("trtexec warns" in reason for reason in reasons)


def test_a_foreign_engine_is_refused_before_trtexec_gets_to_see_1_byte_of_it(device: Device) -> None:
    device.builds()
    before = len(device.lines())
    facts = {**FACTS, "gpu": "Thor (stand-in)"}
    for what in (answer, measure, layers, memory):
        with pytest.raises(OnDeviceFailure, match=r"the GPU was Orin \(stand-in\), here it is Thor") as failure:
            what(device.job(facts=facts), device.folder)
        assert failure.value.kind == "refused"
    device.has("10.13.0")
    with pytest.raises(OnDeviceFailure, match=r"tensorrt 10\.3\.0, here it is tensorrt 10\.13\.0"):
        memory(device.job(), device.folder)
    assert len(device.lines()) == before


def test_a_damaged_engine_is_refused_in_1_sentence(device: Device) -> None:
    device.builds()
    (device.folder / "m.plan").write_bytes(b"no engine")
    with pytest.raises(OnDeviceFailure, match="magicTag") as failure:
        memory(device.job(), device.folder)
    assert failure.value.kind == "refused"
    assert len(failure.value.sentence) <= 420


def test_a_builder_that_fails_is_quoted_and_leaves_0_engines(device: Device) -> None:
    device.builds()
    device.has(build_fails="Error Code 10: Internal Error (Could not find any implementation for node conv + relu.)")
    with pytest.raises(OnDeviceFailure, match=r"Could not find any implementation for node conv \+ relu") as failure:
        device.builds()
    assert failure.value.kind == "refused"
    assert not (device.folder / "m.plan").exists()


def test_an_option_that_this_version_does_not_know_is_1_sentence(device: Device) -> None:
    banner = "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec"
    device.runs(f'echo "{banner}"; test "$1" = --help || {{ echo "[E] Unknown option: --int8 "; exit 1; }}')
    with pytest.raises(OnDeviceFailure, match="does not know the option --int8") as failure:
        device.builds()
    assert failure.value.kind == "failed"


@pytest.mark.parametrize(("signal", "words"), [("KILL", "killed: out of memory"), ("SEGV", "segmentation fault")])
def test_a_builder_that_1_signal_ends_is_told_in_words(device: Device, signal: str, words: str) -> None:
    device.runs(f'echo "[TensorRT v100300]"; test "$1" = --help || kill -{signal} $$')
    with pytest.raises(OnDeviceFailure) as failure:
        device.builds()
    assert (failure.value.kind, words in failure.value.sentence) == ("failed", True)


def test_an_engine_whose_graph_cannot_be_recorded_is_timed_again_without_1(device: Device, capfd: Any) -> None:
    device.builds()
    call = (device.tool / "trtexec").read_text().splitlines()[1]
    refuses = (
        'case "$*" in *useCudaGraph*) echo "[TensorRT v100300]"; echo "[E] CUDA graph capture failed"; exit 1;; esac'
    )
    device.runs(f"{refuses}\n{call}")
    run = measure(device.job(), device.folder)["runs"][0]
    assert (run["graph"], len(run["compute_ms"])) == (False, 299)
    assert "m.plan cannot be recorded as a CUDA graph" in capfd.readouterr().out


def test_a_timing_cache_that_the_job_names_stays_beside_the_blobs_and_is_1_file(device: Device, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    for _ in range(2):
        device.builds(timing_cache="cache")
    assert len(list((tmp_path / "timing").iterdir())) == 1
    assert not (device.folder / "timing.cache").exists()


def test_without_trtexec_and_tensorrt_1_sentence_says_what_to_install(device: Device, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(OnDeviceFailure, match=r"Install NVIDIA's") as failure:
        device.builds()
    assert failure.value.kind == "missing"
