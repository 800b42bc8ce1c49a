"""ONNX Runtime's part on a device, packed into one file and run as it runs there, against the engine of the host."""

import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from targets import stopwatch
from targets.engines.layer_profile import layer_times_from_profile
from targets.engines.onnx_operators import INTEGER_KINDS
from targets.engines.ort import OnnxRuntime
from targets.on_device import onnx_runtime, onnx_runtime_profile, onnx_runtime_times
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.onnx_runtime_arrays import AT_ONCE, Questions
from targets.on_device.onnx_runtime_profile import rows_of
from targets.on_device.onnx_runtime_session import open_session, settings_of

SOURCES = Path(onnx_runtime.__file__).parent
ENGINE = "small.engine.onnx"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part that runs on a device, in one file."""
    path = tmp_path_factory.mktemp("packed") / "on_device.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(SOURCES / "start.py", "__main__.py")
        archive.writestr("targets/__init__.py", "")
        for source in SOURCES.glob("*.py"):
            archive.write(source, f"targets/on_device/{source.name}")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a job."""
    path = tmp_path / "job"
    path.mkdir()
    return path


Done = Callable[..., dict[str, Any]]


@pytest.fixture
def done(packed: Path, folder: Path) -> Done:
    """Does a job in a process of its own, as a device does; gives its result, or its last line if it failed."""

    def do(what: str, job: dict[str, Any], **settings: Any) -> dict[str, Any]:
        (folder / "job.json").write_text(json.dumps({"runtime": "onnxruntime", "settings": settings, **job}))
        command = [sys.executable, str(packed), what, str(folder)]
        ended = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
        last: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        assert ended.returncode == (0 if last["event"] == "done" else 1), ended.stderr
        return json.loads((folder / "result.json").read_text()) if last["event"] == "done" else last  # type: ignore[no-any-return]

    return do


def sent(inputs: np.ndarray, folder: Path, *, name: str = "input") -> dict[str, Any]:
    """An input as a raw file of the job."""
    inputs.tofile(folder / f"{name}.raw")
    return {"name": name, "dtype": str(inputs.dtype), "shape": list(inputs.shape), "file": f"{name}.raw"}


def returned(result: dict[str, Any], folder: Path, place: int = 0) -> np.ndarray:
    output = result["outputs"][place]
    return np.fromfile(folder / output["file"], dtype=output["dtype"]).reshape(output["shape"])


def built(onnx_path: Path, folder: Path) -> Path:
    """An engine in the folder of the job, made in this process."""
    (folder / "small.onnx").write_bytes(onnx_path.read_bytes())
    onnx_runtime.build({"onnx": "small.onnx", "engine": ENGINE}, folder)
    return folder / ENGINE


def test_10_answers_of_the_packed_part_are_the_bits_of_the_hosts_own_engine(
    done: Done, folder: Path, quantized_onnx: Path, inputs: np.ndarray
) -> None:
    (folder / "small.onnx").write_bytes(quantized_onnx.read_bytes())
    result = done("build", {"onnx": "small.onnx", "engine": ENGINE}, threads=1)
    assert (result["files"], result["providers"]) == ([ENGINE], ["CPUExecutionProvider"])
    assert result["runtime"] == OnnxRuntime().runtime
    engine = OnnxRuntime()
    engine.build(quantized_onnx, folder.parent / "host.engine.onnx", threads=1)
    theirs = done("answer", {"engine": ENGINE, "inputs": [sent(inputs, folder)]}, threads=1)
    runner = engine.open(folder.parent / "host.engine.onnx", threads=1)
    expected = runner(inputs)
    runner.close()
    assert theirs["outputs"] == [{"name": "output", "dtype": "float32", "shape": [10, 10], "file": "output-0.raw"}]
    assert (
        returned(theirs, folder).tobytes() == expected.tobytes()
    )  # the same file, kernels and processor: no tolerance


def test_an_engine_with_the_hosts_stamp_of_1_entry_behind_it_still_opens(folder: Path, float_onnx: Path) -> None:
    engine = built(float_onnx, folder)
    entry = onnx.StringStringEntryProto(key="edge_compress.stamp", value='{"bytes": 1}')
    with engine.open("ab") as file:
        file.write(onnx.ModelProto(metadata_props=[entry]).SerializeToString())
    session = open_session(engine, settings_of({}))
    assert session.get_modelmeta().custom_metadata_map["edge_compress.stamp"] == '{"bytes": 1}'
    assert session.get_inputs()[0].name == "input"


def test_a_model_of_batch_4_answers_10_inputs_as_it_answers_them_alone(
    folder: Path, float_onnx_of_batch_4: Path, inputs: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    built(float_onnx_of_batch_4, folder)
    result = onnx_runtime.answer({"engine": ENGINE, "inputs": [sent(inputs, folder)]}, folder)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[-1] == {"event": "progress", "done": 10, "of": 10, "what": "answers"}
    assert {path.name for path in folder.iterdir()} == {"small.onnx", ENGINE, "input.raw", "output-0.raw"}
    session = open_session(folder / ENGINE, settings_of({}))
    for place in range(10):
        alone = session.run(None, {"input": np.repeat(inputs[place : place + 1], 4, axis=0)})[0][0]
        assert returned(result, folder)[place].tobytes() == alone.tobytes()  # one kernel, one row: no tolerance


def test_40_inputs_of_an_open_batch_are_asked_16_at_a_time_and_none_is_made_up() -> None:
    asked = Questions({"x": np.arange(40.0)}, {"x": "float32"}, count=40, fixed=None)
    batches = [(feeds["x"].tolist(), real, start) for feeds, real, start in asked.batches()]
    assert [(len(each), real, start) for each, real, start in batches] == [(16, 16, 0), (16, 16, 16), (8, 8, 32)]
    assert [value for each, _, _ in batches for value in each] == list(range(40))
    assert AT_ONCE == 16
    filled = Questions({"x": np.arange(5.0)}, {"x": "float32"}, count=5, fixed=4)
    assert [(feeds["x"].tolist(), real) for feeds, real, _ in filled.batches()][1] == ([4, 4, 4, 4], 1)


def test_1_nan_among_10_inputs_comes_back_as_nan_and_spoils_no_other(
    folder: Path, float_onnx: Path, inputs: np.ndarray
) -> None:
    built(float_onnx, folder)
    sound = returned(onnx_runtime.answer({"engine": ENGINE, "inputs": [sent(inputs, folder)]}, folder), folder)
    inputs[3] = np.nan
    answers = returned(onnx_runtime.answer({"engine": ENGINE, "inputs": [sent(inputs, folder)]}, folder), folder)
    assert np.isnan(answers[3]).all()
    assert np.delete(answers, 3, axis=0).tobytes() == np.delete(sound, 3, axis=0).tobytes()


def test_2_inputs_are_told_apart_by_name_and_2_outputs_are_2_files(folder: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("a", "b", "less", "more")]
    nodes = [helper.make_node("Sub", ["a", "b"], ["less"]), helper.make_node("Add", ["a", "b"], ["more"])]
    graph = helper.make_graph(nodes, "two", values[:2], values[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "two.onnx")
    a, b = np.float32([[5, 6], [7, 8]]), np.float64([[1, 2], [3, 4]])  # float64 is asked as the model wants it
    job = {"engine": "two.onnx", "inputs": [sent(b, folder, name="b"), sent(a, folder, name="a")]}
    result = onnx_runtime.answer(job, folder)
    assert result["files"] == ["output-0.raw", "output-1.raw"]
    assert returned(result, folder, 0).tolist() == [[4, 4], [4, 4]]
    assert returned(result, folder, 1).tolist() == [[6, 8], [10, 12]]
    with pytest.raises(OnDeviceFailure, match="asks for a, b; the job brings a") as failure:
        onnx_runtime.answer({"engine": "two.onnx", "inputs": [sent(a, folder, name="a")]}, folder)
    assert failure.value.kind == "usage"


def test_2_engines_in_2_processes_give_4_rows_of_20_times(
    done: Done, folder: Path, float_onnx: Path, inputs: np.ndarray
) -> None:
    built(float_onnx, folder)
    job = {"engines": [ENGINE, "small.onnx"], "inputs": [sent(inputs, folder)]}
    result = done("measure", job, samples=20, processes=2, precision_mode=True)
    assert [(each["engine"], each["process"]) for each in result["runs"]] == [
        (ENGINE, 0), ("small.onnx", 0), (ENGINE, 1), ("small.onnx", 1),
    ]  # fmt: skip
    for each in result["runs"]:
        assert len(each["latency_ms"]) == 20
        assert min(each["latency_ms"]) > 0
        assert each["compute_ms"] is None  # a processor has no transfers
    assert result["fresh_processes"] is True
    assert {"before", "after", "unstable"} <= set(result)
    assert result["session"]["entries"] == {"session.force_spinning_stop": "1", "session.x64quantprecision": "1"}
    assert "emulated" not in result


def test_without_a_second_python_1_process_is_timed_and_it_is_said(
    folder: Path, float_onnx: Path, inputs: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    built(float_onnx, folder)
    job = {
        "engines": [ENGINE], "inputs": [sent(inputs, folder)], "python": str(folder / "nowhere" / "python3"),
        "settings": {"samples": 5, "processes": 3},
    }  # fmt: skip
    result = onnx_runtime.measure(job, folder)
    assert [(each["process"], len(each["latency_ms"])) for each in result["runs"]] == [(0, 5)]
    assert result["fresh_processes"] is False
    assert "measured in one process instead of 3" in capsys.readouterr().out
    with pytest.raises(OnDeviceFailure, match="no fresh process") as failure:
        onnx_runtime.memory({**job, "engine": ENGINE}, folder)
    assert failure.value.kind == "missing"


def test_30_rounds_of_3_calls_are_made_in_the_order_of_the_hosts_stopwatch() -> None:
    made: list[int] = []
    calls = [lambda place=place: made.append(place) for place in range(3)]
    stopwatch.sample_turns_ms(calls, count=30, seed=7)
    hosts, made[:] = list(made), []
    taken = onnx_runtime_times.in_turns([[call] for call in calls], count=30, seed=7)
    assert made == hosts
    assert len(made) == 30 * 3 * 2  # an untimed call before each timed one
    assert [len(each[0]) for each in taken] == [30, 30, 30]


def test_50_medians_get_as_many_samples_as_on_the_host() -> None:
    draw = random.Random(0)
    for _ in range(50):
        median_ms, seconds = 10 ** draw.uniform(-3, 3), draw.uniform(0.1, 60)
        ours = onnx_runtime_times.count_for(median_ms, seconds=seconds)
        assert ours == stopwatch.count_for(median_ms, seconds=seconds)
    assert onnx_runtime_times.count_for(1e9, seconds=1) == 299


def test_layers_of_the_quantized_network_are_those_the_host_reads_from_the_same_profile(
    folder: Path, quantized_onnx: Path, inputs: np.ndarray
) -> None:
    built(quantized_onnx, folder)
    session = open_session(folder / ENGINE, settings_of({}), profile=folder / "profile")
    for _ in range(4):
        session.run(None, {"input": inputs})
    profile = Path(session.end_profiling())
    theirs = layer_times_from_profile(profile, runs=3)
    ours = rows_of(json.loads(profile.read_text()), runs=3)
    assert [(each.name, each.kind, each.integer, each.median_ms) for each in theirs] == [
        (each["name"], each["kind"], each["integer"], each["median_ms"]) for each in ours
    ]
    assert sum(each["integer"] for each in ours) >= 3  # two convolutions and a matrix product
    assert onnx_runtime_profile.INTEGER_KINDS == INTEGER_KINDS
    profile.unlink()
    before = set(folder.iterdir())
    result = onnx_runtime.layers({"engine": ENGINE, "inputs": [sent(inputs, folder)]}, folder)
    assert {each["name"] for each in result["layers"]} == {each["name"] for each in ours}
    assert set(folder.iterdir()) - before <= {folder / "input.raw"}  # the profile is gone


def test_the_peak_of_a_fresh_process_is_within_2_times_of_the_hosts_probe(
    folder: Path, float_onnx: Path, inputs: np.ndarray
) -> None:
    built(float_onnx, folder)
    OnnxRuntime().build(float_onnx, folder / "host.engine.onnx", threads=1)
    ours = onnx_runtime.memory({"engine": ENGINE, "inputs": [sent(inputs, folder)]}, folder)["peak_bytes"]
    theirs = OnnxRuntime().peak_memory(folder / "host.engine.onnx", inputs, threads=1)
    assert theirs / 2 < ours < theirs * 2  # the host's probe imports more; a process that kept torch would have 5 times


def has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_on_a_gpu_20_answers_agree_with_the_processor_and_both_times_are_told(
    done: Done, folder: Path, float_onnx: Path, inputs: np.ndarray
) -> None:
    if not has_cuda():
        pytest.skip("missing: an ONNX Runtime with CUDAExecutionProvider (onnxruntime-gpu) and an NVIDIA GPU")
    (folder / "small.onnx").write_bytes(float_onnx.read_bytes())
    given = [sent(np.concatenate([inputs, -inputs]), folder)]
    on_processor = returned(onnx_runtime.answer({"engine": "small.onnx", "inputs": given}, folder), folder)
    result = done("build", {"onnx": "small.onnx", "engine": ENGINE}, provider="cuda")
    assert result["providers"][0] == "CUDAExecutionProvider"
    answers = returned(done("answer", {"engine": ENGINE, "inputs": given}, provider="cuda"), folder)
    # TF32 keeps 10 bits of a factor: 2⁻¹¹ of the largest answer, for each of three products one after the other
    assert np.abs(answers - on_processor).max() <= 3 * 2**-11 * np.abs(on_processor).max()
    measured = done("measure", {"engines": [ENGINE], "inputs": given}, provider="cuda", samples=20, processes=2)
    for run in measured["runs"]:
        assert len(run["compute_ms"]) == len(run["latency_ms"]) == 20
