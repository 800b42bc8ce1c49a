"""A gate on real bundles of a tiny network: what may be compared, each line, and a whole gate of few processes."""

import json
import math
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bundle import json_with_rows, write_bundle
from pipeline.errors import BundleRefused, DataMissing, DataRefused, UsageRefused
from pipeline.gate.accuracy_drop import accuracy_line
from pipeline.gate.further_lines import bootstrap_ratios, load_line, memory_line, quantile_line, size_line
from pipeline.gate.gate import Limits, Sampled
from pipeline.gate.outcome import Finding, only
from pipeline.gate.pair import pair_from
from pipeline.gate.run_gate import Settings, run_gate
from pipeline.integrity import MANIFEST, SUMS, digests_of, sums_text
from pipeline.store import file_digest
from targets.engines.fresh_processes import FreshProcesses, Pace, Sitting, pace_for
from targets.errors import EngineFailed, TargetsError
from targets.paired_ratio import Looks


@pytest.fixture
def bundle(finished: Any) -> Path:
    return write_bundle(finished.plan, finished.journey, dataset=finished.dataset)


@pytest.fixture
def other(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A second bundle whose manifest is changed by a function, its digests made anew."""

    def make(change: Callable[[dict[str, Any]], object] | None = None, *, name: str = "v2") -> Path:
        folder = tmp_path / name
        shutil.copytree(bundle, folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        if change is not None:
            change(manifest)
        listed = digests_of(folder)
        (folder / MANIFEST).write_text(json_with_rows({**manifest, "files": listed}))
        (folder / SUMS).write_text(sums_text(listed, manifest=file_digest(folder / MANIFEST)))
        return folder

    return make


def scores(manifest: dict[str, Any]) -> list[float]:
    found: list[float] = manifest["stages"][-1]["measurement"]["accuracy"]["scores"]
    return found


def test_two_copies_of_a_bundle_are_a_pair_with_1_thread_and_1_example(bundle: Path, other: Any) -> None:
    pair = pair_from(bundle, other())
    assert (pair.threads, pair.inputs.shape, pair.target.name) == (1, (1, 3, 8, 8), "x86-cpu")
    assert pair.baseline.runtime == "onnxruntime" and pair.candidate.call_ms > 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda told: told["target"].update(name="x86-avx2"), "the target of"),
        (lambda told: told["input"].update(shape=[1, 3, 16, 16]), "the input shape"),
        (lambda told: told["input"].update(shape=[4, 3, 8, 8]), "the batch size of"),
        (lambda told: told["input"].update(dtype="int64"), "the kind of input of"),
    ],
)
def test_bundles_that_differ_in_1_of_4_ways_cannot_be_compared(
    bundle: Path, other: Any, change: Any, named: str
) -> None:
    with pytest.raises(BundleRefused, match=named) as refused:
        pair_from(bundle, other(change))
    assert refused.value.exit_code == 2 and "cannot be compared" in str(refused.value)


def test_bundles_for_1_and_2_threads_ask_for_the_flag_and_are_compared_with_it(bundle: Path, other: Any) -> None:
    two = other(lambda told: told["engine"].update(threads=2))
    with pytest.raises(UsageRefused, match=r"for 1 threads and the candidate for 2.*--threads N"):
        pair_from(bundle, two)
    assert pair_from(bundle, two, threads=1).threads == 1


def test_1_flipped_bit_of_the_candidate_is_found_before_anything_is_timed(bundle: Path, other: Any) -> None:
    damaged = other()
    content = bytearray((damaged / "engine.onnx").read_bytes())
    content[100] ^= 1
    (damaged / "engine.onnx").write_bytes(bytes(content))
    with pytest.raises(BundleRefused, match=r"engine\.onnx"):
        pair_from(bundle, damaged)


@pytest.fixture
def foreign(other: Callable[..., Path]) -> Callable[..., Path]:
    """A bundle whose engine another version of the runtime has built."""

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
        folder = other(change)
        engine = (folder / "engine.onnx").read_bytes()
        (folder / "engine.onnx").write_bytes(engine.replace(b"onnxruntime 1.", b"onnxruntime 0."))
        manifest = json.loads((folder / MANIFEST).read_text())
        listed = digests_of(folder)
        (folder / MANIFEST).write_text(json_with_rows({**manifest, "files": listed}))
        (folder / SUMS).write_text(sums_text(listed, manifest=file_digest(folder / MANIFEST)))
        return folder

    return make


def test_an_engine_of_another_runtime_version_is_refused_with_the_bundle_s_name(bundle: Path, foreign: Any) -> None:
    with pytest.raises(TargetsError, match=r"v2: .*was built by onnxruntime 0\."):
        pair_from(bundle, foreign())


def test_where_1_engine_is_foreign_both_are_built_anew_and_answer_as_before(
    bundle: Path, foreign: Any, tmp_path: Path
) -> None:
    pair = pair_from(bundle, foreign(), into=tmp_path / "built")
    assert [side.path.parent.name for side in pair.sides] == ["baseline", "candidate"]
    assert len(pair.remarks) == 1 and "built anew here" in pair.remarks[0]
    stored = np.load(bundle / "examples.npz")
    for side in pair.sides:
        with closing(side.engine.open(side.path, threads=1)) as ask:
            assert ask(stored["inputs"]) == pytest.approx(stored["outputs"], abs=1e-5)


def test_a_foreign_float_engine_of_a_quantized_network_cannot_be_built_here(
    bundle: Path, foreign: Any, tmp_path: Path
) -> None:
    floating = foreign(lambda told: told["engine"].update(integer_ops=0))
    with pytest.raises(BundleRefused, match=r"its model\.onnx is the quantized network"):
        pair_from(bundle, floating, into=tmp_path / "built")


def test_equal_scores_of_40_inputs_drop_nothing_and_stay_undecided_for_a_tenth_of_a_point(
    bundle: Path, other: Any
) -> None:
    pair = pair_from(bundle, other())
    line = accuracy_line(pair, limit=0.1, evaluation=None, error_rate=0.01)
    assert (line.change, line.finding) == (0.0, Finding.UNDECIDED)
    assert line.high == pytest.approx(100 * (1 - 0.01 ** (1 / 40)), abs=0.3)  # Clopper and Pearson's bound
    assert accuracy_line(pair, limit=20, evaluation=None, error_rate=0.01).finding is Finding.FINE
    assert accuracy_line(pair, limit=None, evaluation=None, error_rate=0.01).finding is Finding.REPORTED


def test_30_of_36_right_answers_lost_regress_beyond_20_points(bundle: Path, other: Any) -> None:
    def lose(told: dict[str, Any]) -> None:
        scores(told)[:30] = [0.0] * 30

    line = accuracy_line(pair_from(bundle, other(lose)), limit=20, evaluation=None, error_rate=0.01)
    assert line.change == pytest.approx(75) and line.finding is Finding.REGRESSED
    assert "differ on 30" in line.why


@pytest.mark.parametrize(
    "change",
    [lambda told: told["data"].update(digest="another"), lambda told: scores(told).pop(),
     lambda told: told["stages"][-1].pop("measurement")],
)  # fmt: skip
def test_scores_of_other_data_decide_nothing_and_say_what_to_give(bundle: Path, other: Any, change: Any) -> None:
    line = accuracy_line(pair_from(bundle, other(change)), limit=1.0, evaluation=None, error_rate=0.01)
    assert line.finding is Finding.UNDECIDED and line.change is None and "--evaluation FILE.npz" in line.why


def test_a_file_of_10_inputs_is_answered_by_both_engines_now(bundle: Path, other: Any, tmp_path: Path) -> None:
    file = tmp_path / "evaluation.npz"
    np.savez(file, inputs=np.zeros((10, 3, 8, 8), np.float32), labels=np.zeros(10, np.int64))
    changed = other(lambda told: told["data"].update(digest="another"))
    line = accuracy_line(pair_from(bundle, changed), limit=50, evaluation=file, error_rate=0.01)
    assert (line.change, line.finding) == (0.0, Finding.FINE) and "10 inputs" in line.why


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"inputs": np.zeros((4, 3, 9, 9), np.float32), "labels": np.zeros(4, np.int64)}, "the engines take inputs"),
        ({"inputs": np.full((4, 3, 8, 8), np.nan, np.float32), "labels": np.zeros(4, np.int64)}, "not finite"),
        ({"inputs": np.zeros((4, 3, 8, 8), np.float32), "labels": np.zeros(3, np.int64)}, "with a label each"),
        ({"pictures": np.zeros((4, 3, 8, 8), np.float32)}, "cannot be read"),
    ],
)
def test_1_of_4_unfit_evaluation_files_is_refused(
    bundle: Path, other: Any, tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    file = tmp_path / "evaluation.npz"
    np.savez(file, **arrays)
    with pytest.raises(DataRefused, match=said):
        accuracy_line(pair_from(bundle, other()), limit=1, evaluation=file, error_rate=0.01)


def test_an_evaluation_file_that_is_missing_or_pickled_is_refused_and_nothing_is_run(
    bundle: Path, other: Any, tmp_path: Path
) -> None:
    pair = pair_from(bundle, other())
    with pytest.raises(DataMissing, match="there is no file"):
        accuracy_line(pair, limit=1, evaluation=tmp_path / "none.npz", error_rate=0.01)
    hostile = tmp_path / "hostile.npz"
    np.savez(hostile, inputs=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(DataRefused, match="cannot be read"):
        accuracy_line(pair, limit=1, evaluation=hostile, error_rate=0.01)


def test_the_size_of_a_file_is_exact_and_1_byte_more_than_allowed_regresses(bundle: Path, other: Any) -> None:
    pair = pair_from(bundle, other())
    bytes_now = pair.candidate.path.stat().st_size
    line = size_line(pair, limit=1.0)
    assert (line.change, line.low, line.high, line.finding) == (1.0, 1.0, 1.0, Finding.FINE)
    pair.candidate.path.write_bytes(b"x" * (bytes_now + 1))
    assert size_line(pair, limit=1.0).finding is Finding.REGRESSED


def test_the_peak_of_memory_of_2_equal_engines_is_within_half_of_each_other(bundle: Path, other: Any) -> None:
    line = memory_line(pair_from(bundle, other()), limit=None, error_rate=0.01)
    assert line.baseline is not None and 20 < line.baseline < 500  # MB: Python, numpy and ONNX Runtime
    assert line.change == pytest.approx(1, abs=0.5) and "3 of each" in line.why


def sampled(*, slow_candidate_calls: int) -> Sampled:
    """12 processes of 100 calls of 1 ms each; so many of the candidate's take 5 ms."""
    found = Sampled("cpu_ms")
    for place in range(12):
        rng = np.random.default_rng(place)
        both = [list(1 + 0.001 * rng.random(100)) for _ in (0, 1)]
        both[1][:slow_candidate_calls] = [5.0] * slow_candidate_calls
        times = (tuple(both[0]), tuple(both[1]))
        found.add([Sitting((2.0, 3.0), times, times, 4)])
    return found


def test_3_slow_calls_of_100_move_the_p99_fivefold_and_leave_the_p50() -> None:
    found = sampled(slow_candidate_calls=3)
    p50 = quantile_line("p50", 0.5, found, limit=None, error_rate=0.01, seed=0)
    p99 = quantile_line("p99", 0.99, found, limit=1.5, error_rate=0.01, seed=0)
    assert p50.change == pytest.approx(1, abs=0.01) and p99.change == pytest.approx(5, abs=0.05)
    assert p99.finding is Finding.REGRESSED and p50.finding is Finding.REPORTED


def test_a_load_time_of_3_ms_beside_2_is_half_as_much_again() -> None:
    line = load_line(sampled(slow_candidate_calls=0), limit=1.4, error_rate=0.005)
    assert line.change == pytest.approx(1.5) and line.finding is Finding.REGRESSED


def test_the_bootstrap_of_whole_processes_is_that_of_a_slow_obvious_one() -> None:
    rng = np.random.default_rng(1)
    per_process = [[rng.random(7), rng.random(7)] for _ in range(5)]
    fast = bootstrap_ratios(per_process, 0.5, resamples=50, seed=3)
    chosen = np.random.default_rng(3).integers(0, 5, (50, 5))
    slow = []
    for row in chosen:
        both = [np.sort(np.concatenate([per_process[place][side] for place in row])) for side in (0, 1)]
        rank = math.ceil(0.5 * len(both[0])) - 1  # the value at which half of the calls is reached
        slow.append(both[1][rank] / both[0][rank])
    assert fast == pytest.approx(slow)


def test_the_times_of_1_process_have_2_sittings_with_as_many_turns_of_both(bundle: Path, other: Any) -> None:
    pair = pair_from(bundle, other())
    engines = ((pair.baseline.path, "onnxruntime"), (pair.candidate.path, "onnxruntime"))
    measure = FreshProcesses(engines, pair.inputs, 1, Pace(seconds=0.01))
    sittings = measure(seed=4)
    assert len(sittings) == 2
    for each in sittings:
        assert len(each.cpu_ms[0]) == len(each.wall_ms[1]) >= 3 * 4 and len(each.wall_ms[0]) % 4 == 0
        assert min(each.load_ms) > 0 and min(each.wall_ms[0]) > 0


def test_an_engine_that_goes_while_it_is_timed_is_named(bundle: Path, other: Any) -> None:
    pair = pair_from(bundle, other())
    pair.candidate.path.unlink()
    engines = ((pair.baseline.path, "onnxruntime"), (pair.candidate.path, "onnxruntime"))
    with pytest.raises(EngineFailed, match=r"v2/engine\.onnx fails while it is timed"):
        FreshProcesses(engines, pair.inputs, 1, Pace(seconds=0.01))(seed=0)


def test_an_answer_of_30_ms_is_timed_without_a_call_before_and_one_of_8_ms_in_1_long_sitting() -> None:
    slow, middle, quick = (pace_for(ms) for ms in (30, 8, 1))
    assert (slow.untimed, slow.timed, slow.sittings) == (0, 2, 1)
    assert (middle.untimed, middle.timed, middle.sittings, middle.seconds) == (1, 2, 1, 1.6)
    assert (quick.untimed, quick.timed, quick.sittings, quick.seconds) == (1, 4, 2, 0.4)


def test_a_gate_of_bundles_with_the_same_engine_has_7_lines_and_says_that_it_is_the_same(
    bundle: Path, other: Any
) -> None:
    # A limit of tenfold and a look after one process: what comes out does not hang on the machine.
    settings = Settings(
        Limits(latency=10.0, size=1.0, accuracy_points=50), max_seconds=1.0, looks=Looks((1.0,), (1.0,), 0.5)
    )
    found = run_gate(pair_from(bundle, other()), settings)
    names = [line.name for line in found.lines]
    assert names == ["latency", "p50", "p99", "load time", "file size", "accuracy", "peak memory"]
    assert found.finding is Finding.FINE and only(found.lines, "file size").finding is Finding.FINE
    assert any("the same, byte by byte" in remark for remark in found.remarks)
    assert len(found.process_ratios) >= 1 and found.conditions["threads"] == 1
    json.dumps(found.as_json(), allow_nan=False)
