"""trtexec's command lines per version, and what its lines and files say: by hand, no process is started."""

import json
import math
from array import array
from pathlib import Path

import pytest

from targets.on_device import trtexec_progress
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.own_child import Ended
from targets.on_device.tensor_rt_versions import (
    REMOVED_IN_11,
    strongly_typed,
    version_from_banner,
    version_from_name,
)
from targets.on_device.trtexec_commands import build_command, loaded, profile_command, time_command
from targets.on_device.trtexec_exports import outputs_from_file, profile_from_file, raw_values, times_from_file
from targets.on_device.trtexec_log import NO_GRAPH, Log, ended_badly

V8_5, V8_6, V10, V11 = (8, 5, 2), (8, 6, 1), (10, 3, 0), (11, 4, 1)
INT8, FLOAT, STRONG = {"mode": "int8"}, {"mode": "float"}, {"mode": "int8", "typed": "strong"}


def built(version: tuple[int, ...], settings: dict[str, object]) -> list[str]:
    return build_command(
        ["trtexec"], onnx="m.onnx", engine="m.plan", layers="l.json", version=version, settings=settings,
        workspace_mb=512, timing_cache="t.cache",
    )  # fmt: skip


def test_the_build_of_jetpack_6_is_the_line_of_10_3_by_hand() -> None:
    assert " ".join(built(V10, {**INT8, "sparsity": True})) == (
        "trtexec --onnx=m.onnx --saveEngine=m.plan --int8 --fp16 --skipInference --memPoolSize=workspace:512 "
        "--builderOptimizationLevel=3 --timingCacheFile=t.cache --sparsity=enable --profilingVerbosity=detailed "
        "--exportLayerInfo=l.json --verbose"
    )


@pytest.mark.parametrize(
    ("version", "settings", "typed"),
    [
        (V8_5, INT8, {"--int8", "--fp16"}),
        (V8_6, FLOAT, {"--fp16"}),
        (V10, FLOAT, {"--fp16"}),
        (V10, STRONG, {"--stronglyTyped"}),
        (V11, INT8, set()),
        (V11, FLOAT, set()),
        (V11, STRONG, set()),
    ],
)
def test_each_of_4_versions_is_told_its_types_in_its_own_flags(
    version: tuple[int, ...], settings: dict[str, object], typed: set[str]
) -> None:
    flags = {"--int8", "--fp16", "--stronglyTyped"}
    assert flags & set(built(version, settings)) == typed
    assert ("--buildOnly" in built(version, settings)) is (version == V8_5)
    assert "--sparsity=enable" not in built(version, settings)


def test_no_line_for_11_has_1_of_the_14_flags_that_are_gone_there() -> None:
    lines = [built(V11, settings) for settings in (INT8, FLOAT, STRONG, {**INT8, "sparsity": True})]
    lines += [
        time_command(
            ["trtexec"], engine="m.plan", times="t", version=V11, settings={}, transfers=transfers, graph=graph
        )
        for transfers in (False, True)
        for graph in (False, True)
    ]
    lines.append(profile_command(["trtexec"], engine="m.plan", profile="p", layers="l", version=V11, settings={}))
    passed = {argument.split("=")[0] for line in lines for argument in line}
    assert len(REMOVED_IN_11) == 14
    assert passed & set(REMOVED_IN_11) == set()
    assert {"--includeDataTransfers", "--noCudaGraph"} <= passed


def test_compute_alone_is_timed_over_299_runs_with_3_flags_on_10_and_none_on_11() -> None:
    ten = time_command(
        ["trtexec"], engine="m.plan", times="t.json", version=V10, settings={}, transfers=False, graph=True
    )
    assert " ".join(ten) == (
        "trtexec --loadEngine=m.plan --warmUp=1000 --duration=3 --iterations=299 --useSpinWait --useCudaGraph "
        "--noDataTransfers --exportTimes=t.json"
    )
    eleven = time_command(
        ["trtexec"],
        engine="m.plan",
        times="t.json",
        version=V11,
        settings={"iterations": 10},
        transfers=False,
        graph=True,
    )
    assert eleven[-1:] == ["--exportTimes=t.json"]
    assert eleven[2:-1] == ["--warmUp=1000", "--duration=3", "--iterations=299"]


def test_a_name_with_a_colon_is_loaded_in_2_quotes() -> None:
    assert loaded({"Input:0": "a.bin", "x": "b.bin"}) == "--loadInputs='Input:0':a.bin,x:b.bin"


@pytest.mark.parametrize(
    ("number", "version"),
    [("8503", (8, 5, 3)), ("8601", (8, 6, 1)), ("100300", (10, 3, 0)), ("101602", (10, 16, 2)), ("110401", (11, 4, 1))],
)
def test_the_number_in_the_banner_is_a_version_of_3_parts(number: str, version: tuple[int, ...]) -> None:
    assert version_from_banner(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] [b26] # trtexec --help") == version
    assert version_from_name("10.13.3.9") == (10, 13, 3)
    assert version_from_banner("trtexec: command not found") is None


def test_strong_typing_on_8_6_and_anything_on_8_4_is_refused_in_words() -> None:
    with pytest.raises(OnDeviceFailure, match=r"tensorrt 8\.6\.1 knows weakly typed ones alone"):
        strongly_typed(V8_6, STRONG)
    with pytest.raises(OnDeviceFailure, match=r"8\.5 or later"):
        strongly_typed((8, 4, 1), INT8)
    with pytest.raises(OnDeviceFailure, match="int4"):
        strongly_typed(V10, {"mode": "int4"})


def test_the_3_rows_of_the_warm_up_that_8_6_writes_too_are_left_out(tmp_path: Path) -> None:
    rows = [{"computeMs": 1.0 + number, "latencyMs": 2.0 + number} for number in range(8)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    log = Log()
    log.read("[11/22/2026-05:44:15] [I] Timing trace has 5 queries over 3.00 s")
    assert times_from_file(tmp_path / "t.json", timed=log.facts["timed"])[0] == [4.0, 5.0, 6.0, 7.0, 8.0]
    assert len(times_from_file(tmp_path / "t.json", timed=None)[1]) == 8
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(OnDeviceFailure, match="timed nothing"):
        times_from_file(tmp_path / "t.json", timed=5)


def test_a_layer_that_comes_twice_has_the_sum_of_its_2_times_and_old_versions_an_average(tmp_path: Path) -> None:
    text = '[\n  { "count" : 100 }\n, { "name" : "a", "averageMs" : 0.5, "medianMs" : 0.25, "percentage" : 50 }\n'
    text += ', { "name" : "a", "averageMs" : 0.5, "medianMs" : 0.5 }\n, { "name" : "b", "averageMs" : 0.125 }\n]\n'
    (tmp_path / "p.json").write_text(text)
    found = profile_from_file(tmp_path / "p.json")
    assert found == {"a": {"ms": 0.75, "statistic": "median"}, "b": {"ms": 0.125, "statistic": "average"}}


def test_outputs_are_read_with_nan_and_in_full_where_the_raw_file_says_the_same_6_digits(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(
        '[\n  { "name" : "y"\n  , "dimensions" : "1x3"\n  , "values" : [ 0.333333, -nan, inf ]\n  }\n]\n'
    )
    outputs = outputs_from_file(tmp_path / "o.json")
    assert outputs[0]["shape"] == [1, 3]
    assert math.isnan(outputs[0]["values"][1])
    assert raw_values(outputs, tmp_path)[0]["rounded"] is True
    exact = array("f", [1 / 3, math.nan, math.inf])
    (tmp_path / "y.output.1.3.fp32.raw").write_bytes(exact.tobytes())
    found = raw_values(outputs, tmp_path)[0]
    assert (found["rounded"], found["raw"]) == (False, exact.tobytes())
    (tmp_path / "y.output.1.3.fp32.raw").write_bytes(array("f", [0.5, math.nan, math.inf]).tobytes())
    assert raw_values(outputs, tmp_path)[0]["rounded"] is True  # another run's file is not taken
    (tmp_path / "o.json").write_text('[{"name": "y", "dimensions": "1x4", "values": [1, 2]}]')
    with pytest.raises(OnDeviceFailure, match=r"2 values of y, whose shape is 1x4"):
        outputs_from_file(tmp_path / "o.json")


LOGS = {
    "10": (
        "[11/22/2026-05:44:15] [E] [TRT] ModelImporter.cpp:948: ERROR: ModelImporter.cpp:195 In function parseNode:\n"
        "[11/22/2026-05:44:15] [E] [TRT] In node 4 with name: /conv1/Quant and operator: QuantizeLinear (importer): "
        "INVALID_NODE: Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported\n"
        "[11/22/2026-05:44:15] [E] Failed to parse onnx file\n",
        "refused", "Non-zero zero point is not supported",
    ),
    "8": (
        '[01/03/2026-14:54:45] [E] [TRT] ModelImporter.cpp:749: --- Begin node ---\n'
        '[01/03/2026-14:54:45] [E] [TRT] ModelImporter.cpp:750: input: "a"\ninput: "b"\noutput: "c"\n'
        'name: "/decoder/GridSample"\nop_type: "GridSample"\nattribute {\n  name: "mode"\n}\n'
        '[01/03/2026-14:54:45] [E] [TRT] ModelImporter.cpp:751: --- End node ---\n'
        '[01/03/2026-14:54:45] [E] [TRT] ModelImporter.cpp:754: ERROR: builtin_op_importers.cpp:4951 In function '
        'importFallbackPluginImporter:\n[8] Assertion failed: creator && "Plugin not found"\n',
        "refused", '"Plugin not found" (node /decoder/GridSample)',
    ),
    "builder": (
        "[05/24/2023-16:26:52] [E] Error[10]: [optimizer.cpp::computeCosts::1855] Error Code 10: Internal Error (Could "
        "not find any implementation for node ConvTranspose_56 + Relu_58.)\n[05/24/2023-16:26:52] [E] Engine failed\n",
        "refused", "Could not find any implementation for node ConvTranspose_56 + Relu_58",
    ),
    "option": ("[05/24/2023-16:26:52] [E] Unknown option: --fp16 \n", "failed", "does not know the option --fp16"),
    "memory": (
        "[11/22/2026-05:44:15] [E] Error[2]: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime "
        "(out of memory)\n", "failed", "ran out of memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", LOGS)
def test_the_first_error_of_5_logs_becomes_1_sentence_with_the_node(which: str) -> None:
    text, kind, words = LOGS[which]
    log = Log()
    for line in text.splitlines():
        log.read(line)
    failure = ended_badly(log, Ended(1, 0.0, 0), who="the builder", what="build m.onnx")
    assert failure.kind == kind
    assert words in failure.sentence
    assert len(failure.sentence) <= 420
    assert "05:44:15" not in failure.sentence


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "killed: out of memory"), (137, "killed: out of memory"), (-11, "crashed (segmentation fault)")],
)
def test_signals_9_and_11_are_told_in_words(code: int, words: str) -> None:
    failure = ended_badly(Log(), Ended(code, 0.0, 0), who="the builder", what="build m.onnx")
    assert failure.kind == "failed"
    assert words in failure.sentence


def test_the_log_tells_the_gpu_12_mib_that_tensorrt_holds_and_a_graph_that_failed() -> None:
    log = Log()
    for line in (
        "[11/22/2026-05:44:15] [I] Selected Device: Orin",
        "[11/22/2026-05:44:15] [I] Compute Capability: 8.7",
        "[11/22/2026-05:44:15] [I] [TRT] [MemUsageChange] TensorRT-managed allocation in IExecutionContext creation: "
        "CPU +0, GPU +4, now: CPU 0, GPU 12 (MiB)",
        "[11/22/2026-05:44:15] [W] [TRT] The CUDA graph capture on the stream has failed.",
        "[11/22/2026-05:44:15] [V] [TRT] After vertical fusions: 23 layers",
        "[11/22/2026-05:44:15] [V] [TRT] --------------- Timing Runner: conv1 + relu1 (CaskConvolution[0x80000009])",
    ):
        log.read(line)
    assert log.facts == {"gpu": "Orin", "compute_capability": "8.7", "managed_gpu_mib": 12}
    assert log.said(NO_GRAPH)
    assert (log.tuned, log.layer_count) == ({"conv1 + relu1"}, 23)


def test_progress_is_the_count_of_2_layers_tuned_of_23(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trtexec_progress, "SECONDS_BETWEEN", 0.0)
    log = Log()
    tell = trtexec_progress.told(log)
    for line in ("Original: 23 layers", "Timing Runner: a (CaskConvolution)", "Timing Runner: a (Jit[0x8])", "x",
                 "Timing Runner: b (CudnnPooling[0x80000])"):  # fmt: skip
        log.read("[11/22/2026-05:44:15] [V] [TRT] " + line)
        tell()
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(each["done"], each["of"]) for each in told] == [(1, 23), (2, 23)]
