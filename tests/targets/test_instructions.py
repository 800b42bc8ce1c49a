"""Counting instructions: callgrind's file by hand, who counts, what is refused, and real counts with valgrind."""

import ctypes
import json
import platform
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.engines import hardware_counter
from targets.engines.callgrind_file import instructions_besides, instructions_by_object
from targets.engines.callgrind_request import ARM64, Request, asking, code_for
from targets.engines.instructions import PACKAGES, Witness, counted_from, instructions_of, remark_on, witness_here
from targets.engines.ort import OnnxRuntime
from targets.errors import EngineFailed, EngineMissing

VALGRIND = shutil.which("valgrind")
KNOWN = code_for(platform.machine()) is not None
needs_valgrind = pytest.mark.skipif(
    VALGRIND is None or not KNOWN,
    reason=f"valgrind: {VALGRIND or 'not on the PATH'}; its requests on {platform.machine()}: {KNOWN}",
)
WRITTEN = """\
# callgrind format
version: 1
pid: 8534
part: 2

positions: line
events: Ir
summary: 0


ob=(1) /lib/libruntime.so
fl=(1) ???
fn=(1) matrix product
0 1000
+3 20
cob=(2) /lib/libc.so.6
cfn=(2) memcpy
calls=3 50
0 60
* 4

ob=(2)
fn=(2)
50 60

ob=(3) ???
fn=(3) made while it ran
-2 500
0
totals: 1584
"""


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "counted.2"
    path.write_text(WRITTEN, encoding="utf-8")
    return path


def test_1000_and_20_and_4_instructions_are_the_runtimes_and_60_of_what_it_calls_are_not(dump: Path) -> None:
    assert instructions_by_object(dump) == {"/lib/libruntime.so": 1024, "/lib/libc.so.6": 60, "???": 500}
    assert instructions_besides(dump, others=["/lib/libc.so.6", "/lib/absent.so"]) == 1524


@pytest.mark.parametrize(("old", "new"), [("totals: 1584\n", ""), ("+3 20\n", "+3 21\n"), (WRITTEN, "")])
def test_a_count_that_is_cut_off_or_off_by_1_is_refused(dump: Path, old: str, new: str) -> None:
    dump.write_text(WRITTEN.replace(old, new), encoding="utf-8")
    with pytest.raises(EngineFailed, match="not whole"):
        instructions_by_object(dump)


def test_a_count_of_0_files_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"counted\.1"):
        instructions_by_object(tmp_path / "counted.1")


def test_the_least_of_5_calls_less_the_cost_of_counting_is_the_count() -> None:
    counted = counted_from([6, 1006, 1039, 1006, 1175, 1008], witness="callgrind")
    assert (counted.per_inference, counted.median, counted.calls, counted.exact) == (1000, 1002, 5, True)
    assert not counted_from([6, 1006, 1039], witness="callgrind").exact


def test_a_machine_with_a_counter_counts_by_it_and_never_looks_for_the_2nd_witness() -> None:
    assert witness_here(search="", refusal=lambda: None) == Witness("perf events")


def test_a_machine_with_neither_of_2_witnesses_says_what_to_install() -> None:
    with pytest.raises(EngineMissing, match=r"no counter here.*apt-get install valgrind") as caught:
        witness_here(search="", refusal=lambda: "no counter here")
    assert len(str(caught.value)) <= 420


def test_the_struct_of_the_kernel_has_64_bytes_and_its_flags_at_byte_40() -> None:
    written = hardware_counter.attributes(hardware_counter.HARDWARE, hardware_counter.INSTRUCTIONS)
    assert len(written) == 64
    assert struct.unpack_from("=IIQ", written) == (0, 64, 1)  # type, size, config
    # disabled 1, inherit 2, pinned 4, exclude_kernel 32, exclude_hv 64
    assert struct.unpack_from("=Q", written, 40) == (103,)


def test_the_task_clock_goes_on_while_switched_on_and_begins_at_0_each_time() -> None:
    """Its system call, switches and reading are those of the instructions, and it is there without hardware."""
    try:
        counter = hardware_counter.Counter(hardware_counter.SOFTWARE, hardware_counter.TASK_CLOCK)
    except OSError as error:
        pytest.skip(f"the kernel's software counters: {error}")
    counter.start()
    sum(range(2_000_000))
    long = counter.stop()
    sum(range(4_000_000))  # switched off: not counted
    counter.start()
    short = counter.stop()
    counter.close()
    assert 0 < short < long


def test_the_reason_of_a_counter_that_is_refused_is_a_sentence_and_1_that_is_given_counts() -> None:
    reason = hardware_counter.why_not()
    if reason is None:
        with hardware_counter.counting() as counter:
            counter.start()
            sum(range(100_000))
            assert counter.stop() > 100_000  # more than one instruction for each number
    else:
        with pytest.raises((OSError, AssertionError)), hardware_counter.counting() as counter:
            counter.start()
            sum(range(100_000))
            assert counter.stop() > 100_000
        assert 10 < len(reason) < 150


@pytest.mark.skipif(not KNOWN, reason=f"requests to valgrind on {platform.machine()}")
def test_0_listeners_leave_a_request_without_effect() -> None:
    ask = asking()
    assert [ask(each) for each in Request] == [0] * 5


def test_the_4_rotations_of_an_arm_register_are_those_of_the_manual() -> None:
    # ROR Xd, Xs, #n is EXTR Xd, Xs, Xs, #n: 0x93C00000 | s << 16 | n << 10 | s << 5 | d, here with s = d = 12.
    assert [0x93C00000 | 12 << 16 | turn << 10 | 12 << 5 | 12 for turn in (3, 13, 51, 61)] == list(ARM64[2:6])
    assert (3 + 13 + 51 + 61) % 64 == 0
    assert len(code_for("aarch64") or b"") == 4 * len(ARM64)
    assert code_for("riscv64") is None


def engine_of(layers: int, path: Path) -> Path:
    """An engine of some matrix products of 32 by 32 with a ReLU behind each, and a last one."""
    draw = np.random.default_rng(0)
    names = [f"tensor{number}" for number in range(layers)]
    weights = [
        numpy_helper.from_array(draw.normal(size=(32, 32)).astype(np.float32), f"weight{number}")
        for number in range(layers)
    ]
    nodes, tensor = [], "input"
    for number, name in enumerate(names):
        nodes.append(helper.make_node("MatMul", [tensor, f"weight{number}"], [f"product{number}"]))
        tensor = "output" if number == layers - 1 else name
        nodes.append(helper.make_node("Relu", [f"product{number}"], [tensor]))
    door, answer = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32]) for name in ("input", "output"))
    graph = helper.make_graph(nodes, "products", [door], [answer], weights)
    model = path.with_suffix(".onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)
    engine = path.with_suffix(OnnxRuntime().suffix)
    OnnxRuntime().build(model, engine, threads=1)
    return engine


@pytest.mark.slow
@needs_valgrind
def test_2_counts_are_the_same_to_the_instruction_and_a_4th_layer_counts_more(tmp_path: Path) -> None:
    witness = Witness("callgrind", VALGRIND)
    inputs = np.ones((1, 32), np.float32)
    (tmp_path / "elsewhere, with a longer name").mkdir()
    three = engine_of(3, tmp_path / "three")
    copied = shutil.copy(three, tmp_path / "elsewhere, with a longer name" / f"three{OnnxRuntime().suffix}")
    engines = (three, Path(copied), engine_of(4, tmp_path / "four"))
    with ThreadPoolExecutor(3) as pool:  # valgrind takes five seconds to begin
        count = partial(instructions_of, inputs=inputs, threads=1, runtime="onnxruntime", witness=witness)
        first, again, more = pool.map(count, engines)
    assert first.per_inference == again.per_inference
    # A product of 32 × 32 in vectors of 8 is 128 multiplications at the least, on any processor.
    assert more.per_inference > first.per_inference + 128
    assert (first.witness, first.calls) == ("callgrind", 5)


def test_an_engine_that_is_none_fails_with_1_sentence_that_names_it(tmp_path: Path) -> None:
    """A stand-in for valgrind that runs the program as it is: the engine is opened before anything is counted."""
    stand_in = tmp_path / "valgrind"
    stand_in.write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n', encoding="utf-8")
    stand_in.chmod(0o755)
    witness, inputs = Witness("callgrind", str(stand_in)), np.ones((1, 4))
    bad = tmp_path / "bad.engine.onnx"
    bad.write_bytes(b"not an engine")
    with pytest.raises(EngineFailed, match=r"bad\.engine\.onnx cannot be counted: .*EngineRefused") as caught:
        instructions_of(bad, inputs, threads=1, runtime="onnxruntime", witness=witness)
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineFailed, match=r"absent\.onnx cannot be read"):
        instructions_of(tmp_path / "absent.onnx", inputs, threads=1, runtime="onnxruntime", witness=witness)


def test_1_remark_names_what_callgrind_does_not_emulate_and_another_the_threads() -> None:
    features = ("avx2", "avx512f", "avx_vnni", "amx_int8", "fma")
    remark = remark_on("callgrind", threads=1, features=features)
    assert "without avx512f, avx_vnni, amx_int8:" in remark
    assert remark_on("callgrind", threads=1, features=("avx2", "fma")) == ""
    assert remark_on("perf events", threads=1, features=features) == ""
    assert "one thread, though 4 are used" in remark_on("perf events", threads=4, features=features)


def test_a_count_of_more_than_1_second_is_ended_and_leaves_no_process(tmp_path: Path) -> None:
    """A stand-in for valgrind that never returns."""
    stand_in, noted = tmp_path / "valgrind", tmp_path / "process"
    stand_in.write_text(f"#!/bin/sh\necho $$ > '{noted}'\nexec sleep 60\n", encoding="utf-8")
    stand_in.chmod(0o755)
    engine = tmp_path / "some.onnx"
    engine.write_bytes(b"")
    with pytest.raises(EngineFailed, match="longer than 1 s"):
        instructions_of(
            engine, np.ones((1, 4)), threads=2, runtime="onnxruntime",
            witness=Witness("callgrind", str(stand_in)), limit_s=1,
        )  # fmt: skip
    assert not Path("/proc", noted.read_text().strip()).exists()


def test_the_process_outside_of_valgrind_says_so_instead_of_counting_0(tmp_path: Path) -> None:
    engine = engine_of(1, tmp_path / "one")
    np.save(tmp_path / "inputs.npy", np.ones((1, 32), np.float32))
    order = {"engine": str(engine), "runtime": "onnxruntime", "inputs": str(tmp_path / "inputs.npy"), "threads": 1}
    (tmp_path / "order.json").write_text(json.dumps(order | {"witness": "callgrind", "warming": 1, "calls": 1}))
    command = [sys.executable, "-m", "targets.engines.instruction_process", str(tmp_path / "order.json")]
    ended = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "does not run under valgrind" in ended.stderr
    assert ctypes.sizeof(ctypes.c_void_p) == 8  # the requests are of 64 bits
