"""The tool that measures the gate: its slower networks, its replayed gates and the rules that one uses by hand."""

import json
import math
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.engines.ort import OnnxRuntime
from targets.reach.local import is_x86

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))  # as `python tools/gate_power.py` has it

from gate_power import order_of, table  # noqa: E402
from gate_trials.by_hand import RULES, judged  # noqa: E402
from gate_trials.recorded import Exhausted, replayed  # noqa: E402
from gate_trials.slower import slower_by, with_more_work  # noqa: E402


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A pooled convolution of 3×16×16 pictures with 5 answers, built."""
    if not is_x86():
        pytest.skip("an x86 processor is missing: the engine is built for one")
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "h": rng.standard_normal((8, 5)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("GlobalAveragePool", ["a"], ["b"]),
            helper.make_node("Flatten", ["b"], ["c"]),
            helper.make_node("MatMul", ["c", "h"], ["y"]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    source, built = tmp_path / "small.onnx", tmp_path / "small.engine.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    OnnxRuntime().build(source, built, threads=1)
    return built


@pytest.mark.parametrize(("units", "rows", "channels"), [(3, 3, 8), (16, 16, 8), (40, 13, 24)])
def test_a_network_with_more_work_gives_the_same_5_answers(
    engine: Path, tmp_path: Path, units: int, rows: int, channels: int
) -> None:
    slower = with_more_work(engine, tmp_path / "slower.engine.onnx", units=units)
    x = np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)
    with closing(OnnxRuntime().open(engine, threads=1)) as one, closing(OnnxRuntime().open(slower, threads=1)) as other:
        assert other(x) == pytest.approx(one(x), abs=1e-6)  # nought is added
    values = {each.name: numpy_helper.to_array(each) for each in onnx.load(slower).graph.initializer}
    assert (int(values["more_work_to"][0]), len(values["more_work_weights"])) == (rows, channels)


def processes(ratio: float, count: int, *, noise: float = 0.003) -> list[tuple[float, float]]:
    """So many processes, one a second."""
    draw = np.random.default_rng(2)
    return [(place + 1.0, math.log(ratio) + draw.normal(0, noise)) for place in range(count)]


def test_a_recording_of_18_seconds_ends_the_gate_of_60_and_of_30_at_their_own_looks() -> None:
    rows = processes(1.0, 18)
    thirty, sixty = (replayed(rows, max_seconds=seconds, limit=1.02) for seconds in (30.0, 60.0))
    assert (thirty.finding, thirty.looks, thirty.processes) == ("fine", 1, 9)  # 9 are the fewest: 2⁻⁹ < 0.002
    assert (sixty.finding, sixty.looks, sixty.seconds) == ("fine", 1, 18.0)


def test_a_recording_that_ends_before_the_first_look_at_18_seconds_is_exhausted() -> None:
    with pytest.raises(Exhausted):
        replayed(processes(1.0, 17), max_seconds=60, limit=1.02)


def test_a_slow_down_of_5_percent_is_regressed_and_one_at_the_limit_needs_all_30_seconds() -> None:
    assert replayed(processes(1.05, 40), max_seconds=60, limit=1.02).finding == "regressed"
    at_limit = replayed(processes(1.02, 40), max_seconds=30, limit=1.02)
    assert (at_limit.finding, at_limit.looks, at_limit.seconds) == ("undecided", 4, 30.0)


def test_each_of_4_rules_calls_5_percent_regressed_and_equal_times_fine() -> None:
    draw = np.random.default_rng(0)
    base = 1 + 0.001 * draw.random(2000)
    told = judged(base, 1.05 * base, limit=1.02)
    assert told == dict.fromkeys(RULES, True) and json.loads(json.dumps(told)) == told  # it is written down
    assert judged(base, base.copy(), limit=1.02) == dict.fromkeys(RULES, False)


def test_of_4_rules_the_median_of_100_is_misled_by_100_slow_calls_at_the_beginning_and_the_minimum_is_not() -> None:
    slow_start = np.concatenate([np.full(100, 1.5), np.ones(1900)])
    told = judged(np.ones(2000) + 1e-4 * np.arange(2000) / 2000, slow_start, limit=1.02)
    assert told["median of 100"] and not told["pytest-benchmark min"] and not told["pytest-benchmark median"]


def test_the_table_counts_2_gates_of_a_recording_by_their_findings(tmp_path: Path) -> None:
    ended = '{"finding": "%s", "seconds": 15.0, "looks": 1, "processes": 15}'
    rows = [
        '{"share": 0.03, "load": "idle", "processes": [[1.0, 0.03], [2.0, 0.03]], "ended": {"60": '
        + ended % word
        + "}}"
        for word in ("regressed", "undecided")
    ]
    (tmp_path / "gate-idle-0.03.jsonl").write_text("\n".join(rows) + "\n")
    line = table(tmp_path).splitlines()[2]
    assert line == "| idle | 3 % (3.05) | 60 | 2 | 1 (50.0 %) | 0 (0.0 %) | 1 (50.0 %) | 15 |"
    assert order_of(Path("by-hand-loaded-0.03.jsonl")) == ("loaded", 0.03)


def test_the_work_for_3_and_10_percent_is_found_where_time_does_not_grow_evenly(engine: Path, tmp_path: Path) -> None:
    def log_ratio(path: Path) -> float:  # 1 % at once, and less and less for every row of every eight channels
        values = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
        units = int(values["more_work_to"][0]) * len(values["more_work_weights"]) / 8
        return math.log(1.01 + 0.01 * math.sqrt(units))

    made = slower_by(engine, [0.03, 0.10], into=tmp_path, log_ratio=log_ratio)
    assert sorted(path.name for path in made.values()) == ["slower-0.03.engine.onnx", "slower-0.1.engine.onnx"]
    for share, path in made.items():
        assert math.expm1(log_ratio(path)) == pytest.approx(share, abs=0.004)  # rows come in whole numbers
