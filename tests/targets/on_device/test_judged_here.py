"""Budgets judged on the device without NumPy, and bundles checked there: against the host's own functions."""

import gzip
import hashlib
import json
import math
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets.intervals import quantile_interval
from targets.measurement import Pairs, nearest_rank
from targets.on_device.bundle_check import refuse_damaged, refuse_unsigned
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.finish import as_half, inputs_of, order_of, wants_half
from targets.on_device.judged_here import held, judged, nearest, quantile_bounds, right_answers, speedup, times_of

LIMITS = [
    {"limit": "max_latency_ms", "bound": 2.0, "origin": "test"},
    {"limit": "min_speedup", "bound": 1.5, "origin": "test"},
    {"limit": "max_accuracy_drop_points", "bound": 1.0, "origin": "test"},
    {"limit": "max_size_mb", "bound": 1.0, "origin": "test"},
]


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("confidence", [0.95, 0.975])
def test_bounds_of_a_quantile_are_those_of_the_host_for_1_to_400_samples_and_2_991(q: float, confidence: float) -> None:
    random = np.random.default_rng(0)
    for n in (*range(1, 400, 7), 298, 299, 300, 897, 2991):
        samples = random.gamma(2.0, size=n).tolist()
        wanted = quantile_interval(samples, q, confidence=confidence)
        low, high = quantile_bounds(samples, q, confidence)
        assert low == (wanted.low if math.isfinite(wanted.low) else 0.0)  # no time is below 0
        assert high == wanted.high
        assert nearest(samples, q) == nearest_rank(tuple(samples), q)


def test_298_samples_bound_no_p99_from_above_and_299_do() -> None:
    assert quantile_bounds([1.0] * 298, 0.99, 0.95)[1] == math.inf
    assert quantile_bounds([1.0] * 299, 0.99, 0.95)[1] == 1.0
    assert quantile_bounds([], 0.5, 0.95) == (0.0, math.inf)


def test_the_speedup_of_2_lists_is_that_of_the_host() -> None:
    random = np.random.default_rng(1)
    slow, fast = (tuple((scale * random.gamma(9.0, size=500)).tolist()) for scale in (1.5, 1.0))
    pairs = Pairs(slow, fast)
    bounds = pairs.speedup_interval()
    assert speedup(slow, fast) == (pairs.speedup, bounds.low, bounds.high)


@pytest.mark.parametrize(
    ("ceiling", "low", "high", "verdict"),
    [
        (True, 1.0, 2.0, "met"), (True, 2.1, 3.0, "missed"), (True, 1.0, 2.1, "undecided"),
        (True, 1.0, math.inf, "undecided"), (False, 2.0, 3.0, "met"), (False, 1.0, 1.9, "missed"),
        (False, 1.9, 2.1, "undecided"),
    ],
)  # fmt: skip
def test_a_bound_of_2_is_met_missed_or_undecided(ceiling: bool, low: float, high: float, verdict: str) -> None:
    assert held(2.0, (low + min(high, 9.0)) / 2, low, high, ceiling=ceiling, unit="ms")["verdict"] == verdict


def evidence(folder: Path, **times: Any) -> dict[str, Any]:
    """Of two engines that were asked two inputs, and timed where `times` says."""
    np.array([[0.1, 0.9], [0.8, 0.2]], "<f4").tofile(folder / "int8.raw")
    np.array([[0.1, 0.9], [0.2, 0.8]], "<f4").tofile(folder / "teacher.raw")
    answers = {name: [{"file": f"{name}.raw", "dtype": "float32", "shape": [2, 2]}] for name in ("int8", "teacher")}
    return {"engines": {name: {"answers": each} for name, each in answers.items()}, "times": times}


def runs(**medians: float) -> list[dict[str, Any]]:
    return [
        {"engine": f"{name}.plan", "process": process, "latency_ms": [median] * 200}
        for process in range(2)
        for name, median in medians.items()
    ]


ORDER = {"limits": LIMITS, "metric": "top1", "labels": [1, 0]}


def test_4_limits_are_judged_from_400_times_each(tmp_path: Path) -> None:
    found = evidence(tmp_path, runs=runs(int8=1.0, teacher=2.0), order=["int8", "teacher"], unstable=[])
    rows = judged(ORDER, found, tmp_path)
    assert [row["verdict"] for row in rows] == ["met", "met", "undecided", "undecided"]
    assert rows[2]["why"] == "right of 2: int8 100.00 %, teacher 50.00 %; `compress build` judges it"
    slow = evidence(tmp_path, runs=runs(int8=3.0, teacher=3.0), order=["int8", "teacher"], unstable=[])
    assert [row["verdict"] for row in judged(ORDER, slow, tmp_path)][:2] == ["missed", "missed"]


def test_unstable_failed_and_missing_times_leave_2_limits_undecided_with_the_reason(tmp_path: Path) -> None:
    both = ["int8", "teacher"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"runs": runs(int8=1.0, teacher=2.0), "order": both, "unstable": ["it throttled."]}, "it throttled."),
        ({"failed": "the processor is emulated"}, "not measured: the processor is emulated"),
        ({}, "not measured: there are no times"),
        ({"runs": [], "order": both, "unstable": []}, "not measured: there are no times"),
    ]
    for times, why in cases:
        rows = judged(ORDER, evidence(tmp_path, **times), tmp_path)
        assert [row["verdict"] for row in rows[:2]] == ["undecided"] * 2
        assert all(why in row["why"] for row in rows[:2]), rows
    alone = judged(ORDER, evidence(tmp_path, runs=runs(int8=1.0), order=["int8"], unstable=[]), tmp_path)
    assert [row["verdict"] for row in alone[:2]] == ["met", "undecided"]
    assert alone[1]["why"] == "not measured: the teacher has no engine here"


def test_times_of_an_engine_are_those_of_all_processes_and_of_no_engine_whose_name_begins_so() -> None:
    times = {"runs": [*runs(int8=1.0), {"engine": "int8b.plan", "process": 0, "latency_ms": [5.0]}]}
    assert times_of(times, "int8") == [1.0] * 400
    assert times_of({"runs": [{"engine": "a.plan", "process": 0, "compute_ms": [2.0], "latency_ms": []}]}, "a") == [2.0]


def test_right_answers_of_float16_and_int64_are_counted_in_their_own_kind(tmp_path: Path) -> None:
    values = np.array([[1, 9, 3], [8, 2, 1], [0, 1, 7], [5, 4, 3]])
    for kind in ("float16", "float32", "float64", "int64", "int8"):
        values.astype(kind).tofile(tmp_path / "a.raw")
        row = {"file": "a.raw", "dtype": kind, "shape": [4, 3]}
        assert right_answers(row, tmp_path, [1, 0, 2, 1]) == 3, kind


def test_float32_is_halved_to_the_nearest_of_float16_as_numpy_does_but_never_to_infinity() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=1000), [0.0, -0.0, 65504.0, 1e-8, 6e-5]]).astype(
        "<f4"
    )
    assert as_half(values.tobytes()) == values.astype("<f2").tobytes()
    beyond = np.frombuffer(as_half(struct.pack("<3f", 1e9, -math.inf, math.nan)), "<f2")
    assert beyond[:2].tolist() == [65504.0, -65504.0]
    assert np.isnan(beyond[2])


@pytest.mark.parametrize("halved", [False, True])
def test_3_inputs_are_unpacked_and_the_first_stands_alone_in_its_own_kind(tmp_path: Path, halved: bool) -> None:
    values = np.random.default_rng(0).normal(size=(3, 2, 2)).astype("<f4")
    (tmp_path / "in.gz").write_bytes(gzip.compress(values.tobytes()))
    order = {"inputs": {"file": "in.gz", "name": "x", "dtype": "float32", "shape": [3, 2, 2]}}
    whole, one = inputs_of(tmp_path, order, tmp_path, halved=halved)
    kind = "float16" if halved else "float32"
    assert whole == {"name": "x", "dtype": kind, "shape": [3, 2, 2], "file": "inputs.raw"}
    assert one == {"name": "x", "dtype": kind, "shape": [1, 2, 2], "file": "one.raw"}
    assert (tmp_path / "inputs.raw").read_bytes() == values.astype(kind).tobytes()
    assert (tmp_path / "one.raw").read_bytes() == values[:1].astype(kind).tobytes()


def test_half_inputs_are_wanted_of_tensorrt_11_and_of_a_file_that_takes_them_2_of_5() -> None:
    def wanted(version: str, dtype: str = "float32", **form: Any) -> bool:
        engines = {"int8": {"mode": "int8", "onnx": "m.onnx", "takes": "float32", "float16": "h.onnx", **form}}
        order = {"runtime": "tensorrt", "engines": engines, "inputs": {"dtype": dtype}}
        return wants_half(order, {"tensorrt": {"version": version}})

    assert not wanted("10.3.0")
    assert wanted("11.4.1")
    assert wanted("10.3.0", takes="float16", float16=None)
    assert not wanted("11.4.1", dtype="int64")  # words stay words
    assert not wanted("11.4.1", float16=None)


def test_an_order_of_schema_2_and_none_are_refused_in_1_sentence(tmp_path: Path) -> None:
    for content in (None, "{}", "[]", json.dumps({"schema": 2, "engines": {"a": {}}, "runtime": "tensorrt"})):
        (tmp_path / "to_finish").mkdir(exist_ok=True)
        if content is not None:
            (tmp_path / "to_finish" / "order.json").write_text(content)
        with pytest.raises(OnDeviceFailure, match="has nothing to finish") as caught:
            order_of(tmp_path)
        assert caught.value.kind == "usage"


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of one file and a list of digests; more lines can be added to it."""

    def make(*more: str) -> Path:
        bundle = tmp_path / "bundle"
        bundle.mkdir(exist_ok=True)
        (bundle / "a").write_bytes(b"content")
        lines = [f"{hashlib.sha256(b'content').hexdigest()}  a", *more]
        (bundle / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines))
        return bundle

    return make


def test_of_a_bundle_every_changed_missing_and_outer_file_is_named(listed: Callable[..., Path], tmp_path: Path) -> None:
    assert refuse_damaged(listed()) == 1
    (tmp_path / "outer").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    for line, said in (
        (f"{digest}  ../outer", "'../outer' is no file of the bundle"),
        (f"{digest}  {tmp_path / 'outer'}", "is no file of the bundle"),
        (f"{digest}  gone", "gone is missing"),
        (f"{'0' * 64}  a", "a was changed"),
        ("nothing", "'' is no file of the bundle"),
    ):
        with pytest.raises(OnDeviceFailure) as caught:
            refuse_damaged(listed(line))
        assert said in caught.value.sentence
    (tmp_path / "bundle" / "link").symlink_to(tmp_path / "outer")
    with pytest.raises(OnDeviceFailure, match="'link' is no file of the bundle"):
        refuse_damaged(listed(f"{digest}  link"))
    (listed() / "SHA256SUMS").write_text("")
    with pytest.raises(OnDeviceFailure, match="no file is listed"):
        refuse_damaged(tmp_path / "bundle")
    (tmp_path / "bundle" / "SHA256SUMS").unlink()
    with pytest.raises(OnDeviceFailure, match="cannot be read"):
        refuse_damaged(tmp_path / "bundle")


def test_a_signature_passes_by_its_own_signer_and_by_no_other_of_2(listed: Callable[..., Path], tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("for signatures there is missing: ssh-keygen")
    bundle = listed()
    with pytest.raises(OnDeviceFailure, match="is not signed"):
        refuse_unsigned(bundle, tmp_path / "signers")
    for name in ("mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
        (tmp_path / f"{name}-signers").write_text(f"{name}@example.org {(tmp_path / f'{name}.pub').read_text()}")
    sign = [
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-n",
        "edge-compress",
        "-f",
        str(tmp_path / "mine"),
        str(bundle / "SHA256SUMS"),
    ]
    subprocess.run(sign, check=True, capture_output=True)
    refuse_unsigned(bundle, tmp_path / "mine-signers")
    with pytest.raises(OnDeviceFailure, match="of none of the signers"):
        refuse_unsigned(bundle, tmp_path / "other-signers")
    (bundle / "SHA256SUMS").write_text((bundle / "SHA256SUMS").read_text() + "\n")
    with pytest.raises(OnDeviceFailure, match="of none of the signers"):
        refuse_unsigned(bundle, tmp_path / "mine-signers")
