"""ONNX Runtime through jobs of a device, which is this machine: the same bits as the host's own engine."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.engines.elsewhere import Afar, Elsewhere
from targets.engines.ort import OnnxRuntime
from targets.engines.raw_arrays import read_raw, written_raw
from targets.engines.stamp import append_stamp, read_stamped
from targets.engines.times_there import in_step
from targets.errors import DeviceMissing, EngineFailed, EngineMissing, EngineRefused, TimesRefused
from targets.find import target_named
from targets.fits import arm64_with_dot_product, board, nvidia_gpu
from targets.one_by_one import answers_one_by_one, at_once
from targets.reach.conditions_there import conditions_there
from targets.reach.device import Device
from targets.reach.this_machine import this_machine
from targets.side_by_side import timed_in_turns

QUICK = {"processes": 1}
FACTS = {"hostname": "board", "architecture": "aarch64", "cpu_features": ["asimddp"], "onnxruntime": "1.31.1"}


class Told:
    """A device that is not there: it has the facts and gives the results that the test names."""

    address = "ssh://told"

    def __init__(self, facts: Mapping[str, Any], **results: Any) -> None:
        self.told, self.results, self.asked = dict(facts), results, list[str]()

    def facts(self) -> dict[str, Any]:
        return self.told

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        self.asked.append(what)
        found: dict[str, Any] = self.results[what]
        return found


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    with this_machine(tmp_path_factory.mktemp("device")) as found:
        yield found


@pytest.fixture
def built(device: Device, quantized_onnx: Path, tmp_path: Path) -> tuple[Elsewhere, Path]:
    engine, path = Elsewhere(device, settings=QUICK), tmp_path / "there.engine.onnx"
    engine.build(quantized_onnx, path, threads=1)
    return engine, path


def test_10_answers_from_there_are_the_bits_of_the_engine_that_is_built_here(
    built: tuple[Elsewhere, Path], quantized_onnx: Path, inputs: np.ndarray, tmp_path: Path
) -> None:
    engine, path = built
    here = tmp_path / "here.engine.onnx"
    OnnxRuntime().build(quantized_onnx, here, threads=1)
    wanted = OnnxRuntime().open(here, threads=1)(inputs)
    runner = engine.open(path, threads=1)
    assert answers_one_by_one(runner, inputs).tobytes() == wanted.tobytes()  # the same kernels on the same machine
    shape = (4, 224, 224)  # 802 816 bytes each: 318 of them are 256 MB
    assert (at_once(runner, 1, shape=shape), at_once(OnnxRuntime().open(here, threads=1), 1, shape=shape)) == (318, 1)
    assert engine.runtime == OnnxRuntime().runtime
    assert engine.operators(path) == OnnxRuntime().operators(here)
    (outputs,) = engine.outputs_of(quantized_onnx, inputs)
    assert outputs.tobytes() == wanted.tobytes()
    # the file that came back is one of the host's own, and it is opened here as it is
    assert OnnxRuntime().open(path, threads=1)(inputs).tobytes() == wanted.tobytes()


def test_2_engines_are_timed_there_in_turns_with_299_rounds_in_each_of_2_processes(
    built: tuple[Elsewhere, Path], float_onnx: Path, inputs: np.ndarray, tmp_path: Path
) -> None:
    engine, path = built
    twice, other = replace(engine, settings={"processes": 2}), tmp_path / "float.engine.onnx"
    twice.build(float_onnx, other, threads=1)
    timed = twice.times([path, other], inputs[:1], threads=1, seed=0)
    assert [len(each) for each in timed.samples_ms] == [2 * 299, 2 * 299]
    assert min(map(min, timed.samples_ms)) > 0
    assert timed.processes == 2
    assert timed.compute_ms == (None, None)  # a processor has no transfers to leave out
    assert timed.state["before"] is not None
    assert timed.state["after"] is not None
    in_turns = timed_in_turns([(engine, path), (engine, other)], inputs=inputs[:1], threads=1, seed=0, rounds=30)
    assert [len(each) for each in in_turns] == [30, 30]
    rows = engine.layer_times(path, inputs, threads=1)
    assert sum(row.kind in ("Conv", "QLinearConv", "FusedConv") for row in rows) == 2
    assert engine.peak_memory(path, inputs, threads=1) > 1_000_000


def test_a_stamp_of_another_runtime_or_of_1_other_feature_is_refused_before_a_job_is_begun(
    built: tuple[Elsewhere, Path], tmp_path: Path
) -> None:
    engine, path = built
    stamp, model = read_stamped(path)
    foreign = tmp_path / "foreign.engine.onnx"
    for other in (
        replace(stamp, runtime="onnxruntime 1.2.3"),
        replace(stamp, architecture="aarch64"),
        replace(stamp, cpu_features=(*stamp.cpu_features, "amx_of_tomorrow")),
    ):
        foreign.write_bytes(model)
        append_stamp(foreign, other)
        with pytest.raises(EngineRefused, match="Build it again from its ONNX"):
            engine.open(foreign, threads=1)
    foreign.write_bytes(model)
    append_stamp(foreign, replace(stamp, threads=7))  # may be opened with another number
    engine.open(foreign, threads=1).close()
    foreign.write_bytes(model)
    with pytest.raises(EngineRefused):
        engine.open(foreign, threads=1)
    with pytest.raises(EngineRefused, match="There is no ONNX file"):
        engine.build(tmp_path / "none.onnx", tmp_path / "none.engine.onnx", threads=1)


def test_int64_inputs_beyond_24_bits_and_2_outputs_come_back_whole(device: Device, tmp_path: Path) -> None:
    door = helper.make_tensor_value_info("words", TensorProto.INT64, ["N", 3])
    exits = [
        helper.make_tensor_value_info("doubled", TensorProto.INT64, ["N", 3]),
        helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["N", 1]),
    ]
    nodes = [
        helper.make_node("Add", ["words", "words"], ["doubled"]),
        helper.make_node("Cast", ["words"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["sums"], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "words", [door], exits, [numpy_helper.from_array(np.array([1]), "axis")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "w.onnx")
    words = np.array([[1, 2, 2**40], [3, 4, 5], [2**24 + 1, 0, -7]])
    engine, path = Elsewhere(device), tmp_path / "w.engine.onnx"
    engine.build(tmp_path / "w.onnx", path, threads=1)
    assert json.loads((tmp_path / "w.engine.onnx.json").read_text())["input"] == {"name": "words", "dtype": "int64"}
    doubled, sums = engine.answers(path, words, threads=1)
    assert doubled.dtype == np.int64
    assert doubled.tolist() == (2 * words).tolist()
    assert sums.tolist() == [[float(np.float32(2**40))], [12.0], [float(2**24 - 7)]]  # float32 has no 2²⁴ + 1
    # float32, as which a data set holds its inputs, is turned into what the network takes
    few = np.array([[1, 2, 3]], np.float32)
    assert engine.answers(path, few, threads=1)[0].tolist() == [[2, 4, 6]]
    both = engine.open(path, threads=1)(few)
    assert both.tolist() == [[2.0, 4.0, 6.0, 6.0]]


def test_of_299_and_450_runs_of_1_process_299_of_each_are_paired_with_their_own_process() -> None:
    runs = [
        {"engine": "a", "process": 0, "latency_ms": [1.0] * 450},
        {"engine": "b", "process": 0, "latency_ms": [2.0] * 299},
        {"engine": "b", "process": 1, "latency_ms": [4.0] * 400},
        {"engine": "a", "process": 1, "latency_ms": [3.0] * 310},
    ]
    first, second = in_step(runs, ["a", "b"])
    assert list(zip(first, second, strict=True)) == [(1.0, 2.0)] * 299 + [(3.0, 4.0)] * 310
    assert in_step(runs[:1], ["a", "b"]) == ((), ())


def test_an_emulated_processor_gives_answers_and_none_of_its_3_figures(tmp_path: Path) -> None:
    (tmp_path / "e.onnx").write_bytes(b"")
    told = Told({**FACTS, "emulated": {"yes": True, "why": "qemu"}}, measure={}, memory={}, layers={})
    engine, one = Elsewhere(told), np.zeros((1, 2), np.float32)
    for figure in (
        lambda: engine.times([tmp_path / "e.onnx"], one, threads=1, seed=0),
        lambda: engine.peak_memory(tmp_path / "e.onnx", one, threads=1),
        lambda: engine.layer_times(tmp_path / "e.onnx", one, threads=1),
    ):
        with pytest.raises(TimesRefused, match="the processor of ssh://told is emulated"):
            figure()
    assert told.asked == []
    target = target_named("arm64-cpu").through(told)
    assert target.is_here()
    assert not target.can_be_timed()
    assert target_named("arm64-cpu").through(Told(FACTS)).can_be_timed()
    conditions = conditions_there(
        told.facts(), target="arm64-cpu", runtime="r", threads=1, batch=1, warmup_runs=0, samples=0
    )
    assert not conditions.on_target
    assert conditions.device == {"emulated": {"yes": True, "why": "qemu"}}
    assert (conditions.cores, conditions.cpu) == (1, "unknown processor")


def test_2_answers_to_3_inputs_no_times_and_no_runtime_are_errors_that_name_the_device(tmp_path: Path) -> None:
    few = np.zeros((3, 2), np.float32)
    runs = {"runs": [{"engine": "0-engine.engine.onnx", "process": 0, "latency_ms": []}]}
    told = Told(FACTS, answer={"outputs": []}, measure=runs)
    (tmp_path / "e.engine.onnx").write_bytes(b"")
    with pytest.raises(EngineFailed, match="ssh://told gave not one answer to each of 3 inputs"):
        Elsewhere(told).answers(tmp_path / "e.engine.onnx", few, threads=1)
    with pytest.raises(EngineFailed, match="ssh://told sent no times"):
        Elsewhere(told).times([tmp_path / "e.engine.onnx"], few, threads=1, seed=0)
    with pytest.raises(EngineMissing, match="ssh://told has no tensorrt"):
        _ = Elsewhere(told, "tensorrt").runtime


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint8", "int64", "bool"])
def test_6_numbers_of_each_kind_are_read_back_from_a_view_that_is_not_in_order(kind: str, tmp_path: Path) -> None:
    array = np.arange(12).reshape(3, 4).T[::2].astype(kind)
    entry = written_raw(array, tmp_path / "a.raw", name="a")
    assert (entry["shape"], entry["dtype"]) == ([2, 3], kind)
    little_endian = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    assert (tmp_path / "a.raw").read_bytes() == little_endian.tobytes()
    back = read_raw(entry, tmp_path)
    assert back.dtype == array.dtype
    assert back.tolist() == array.tolist()


def test_4_entries_that_make_no_sense_are_refused_and_none_leads_out_of_the_folder(tmp_path: Path) -> None:
    entry = written_raw(np.zeros(3, np.float32), tmp_path / "a.raw", name="a")
    (tmp_path / "inner").mkdir()
    wrong: list[dict[str, Any]] = [
        {**entry, "shape": [4]}, {**entry, "dtype": "float33"}, {**entry, "file": "b.raw"}, {"name": "a"},
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(EngineFailed, match="What the device sent for 'a' cannot be read"):
            read_raw(each, tmp_path)
    with pytest.raises(EngineFailed):
        read_raw({**entry, "file": "../a.raw"}, tmp_path / "inner")


def test_a_device_fits_3_kinds_of_target_by_its_own_words() -> None:
    a10 = nvidia_gpu("a10")
    assert a10({"gpu": "NVIDIA A10"}) == ""
    assert a10({"gpu": "NVIDIA A100-SXM4-40GB"}) == "its GPU is NVIDIA A100-SXM4-40GB"
    assert a10({}) == "it has no NVIDIA GPU that nvidia-smi names"
    assert board("AGX Orin")({"board": "NVIDIA Jetson AGX Orin Developer Kit"}) == ""
    assert "Orin Nano" in board("AGX Orin")({"board": "NVIDIA Jetson Orin Nano"})
    assert "names no board" in board("AGX Orin")({})
    assert arm64_with_dot_product(FACTS) == ""
    assert "asimddp" in arm64_with_dot_product({**FACTS, "cpu_features": ["asimd"]})
    assert "not a 64-bit ARM" in arm64_with_dot_product({"architecture": "x86_64"})


def test_through_1_device_of_another_kind_and_a_target_that_is_no_device_are_refused_by_name() -> None:
    with pytest.raises(DeviceMissing, match="ssh://told is not a x86-cpu: its processor is aarch64, not x86"):
        target_named("x86-cpu").through(Told(FACTS))
    with pytest.raises(DeviceMissing, match="null is no device that could be reached elsewhere"):
        target_named("null").through(Told(FACTS))


def test_the_scheme_is_that_of_the_device_and_its_runtime_1_of_2(tmp_path: Path) -> None:
    vnni = Told({**FACTS, "architecture": "x86_64", "cpu_features": ["avx2", "avx512_vnni"]})
    avx2 = Told({**FACTS, "architecture": "x86_64", "cpu_features": ["avx2"]})
    schemes = [target_named("x86-cpu").through(each).scheme() for each in (vnni, avx2)]
    assert [scheme.sums_in_16_bits for scheme in schemes] == [False, True]
    for version, bits in (("10.3.0", 32), ("11.4.1", 16)):
        told = Told({"board": "NVIDIA Jetson AGX Orin", "tensorrt": {"version": version}})
        target = target_named("jetson-orin").through(told, settings={"lock_clocks": True})
        assert target.scheme().float_bits == bits
        assert isinstance(target.engine, Elsewhere)
        assert (target.engine.runtime, target.engine.suffix) == (f"tensorrt {version}", ".plan")
        assert target.engine.settings == {"lock_clocks": True}
        assert isinstance(Afar(target.engine, tmp_path, 1), Afar)
