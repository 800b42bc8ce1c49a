"""`compress` for an x86 that is reached as a device, which is this machine: built, asked and timed by jobs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.integrity import read_manifest, refuse_damaged
from pipeline.measure import measure
from pipeline.models.convnet import ConvNet
from pipeline.stage import Run
from targets.budget import Limit
from targets.find import target_named
from targets.reach.device import Device
from targets.verdict import Outcome, verdicts_on

Runs = Callable[..., Any]
EASY = (Limit("max_latency_ms", 10_000.0, "test"), Limit("min_speedup", 1e-6, "test"))


@pytest.mark.slow
def test_all_4_rows_are_measured_by_jobs_on_the_device_and_both_budgets_of_time_are_met(
    ran: Runs, here: Device, tmp_path: Path
) -> None:
    done = ran(tmp_path / "out", target_named("x86-cpu").through(here, settings={"processes": 2}), *EASY)
    assert done.journey.exit_code == 0
    for row in done.journey.results:
        measurement = row.measurement
        assert measurement.conditions.on_target
        assert measurement.conditions.device["processes"] == 2
        assert len(measurement.latency.samples_ms) == 2 * 299
        assert measurement.peak_memory_bytes > 0
        assert measurement.accuracy.n == 2
    assert [row.measurement.pairs is not None for row in done.journey.results] == [False, True, True, True]
    manifest = read_manifest(done.bundle)
    assert refuse_damaged(done.bundle, manifest) > 10
    assert manifest["conditions"]["machine"] == here.facts()["hostname"]
    assert manifest["exit_code"] == 0
    assert (done.bundle / "engine.onnx").is_file()
    assert not (done.bundle / "to_finish").exists()


class Emulated:
    """The device, which says that its processor is emulated."""

    address = "ssh://emulated"

    def __init__(self, device: Device) -> None:
        self.device = device

    def facts(self) -> dict[str, Any]:
        return {**self.device.facts(), "emulated": {"yes": True, "why": "the test says so"}}

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        assert what in ("build", "answer"), "no figure of an emulator is asked for"
        return self.device.job(what, job, files=files, fetch=fetch, into=into, limit_s=limit_s)


def test_of_an_emulated_device_accuracy_is_measured_and_3_figures_are_missing_with_the_reason(
    here: Device,
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    two_pictures: Dataset,
    tmp_path: Path,
) -> None:
    target = target_named("x86-cpu").through(Emulated(here))
    (tmp_path / "teacher").mkdir()
    teacher = candidate_in(tmp_path / "teacher", lambda: ConvNet(channels=3, classes=4), two_pictures)
    run = run_in(tmp_path / "run", target=target, teacher=teacher, dataset=two_pictures)
    taken = measure(teacher, run, teacher=None).measurement
    said = "not measured: the processor of ssh://emulated is emulated, and its times say nothing of a real one"
    assert dict(taken.missing) == dict.fromkeys(("latency", "pairs", "peak_memory_bytes"), said)
    assert taken.accuracy is not None
    assert taken.accuracy.n == 2
    assert taken.conditions is not None
    assert not taken.conditions.on_target
    verdicts = verdicts_on(taken, budget=target.budget, teacher=taken.accuracy)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.UNDECIDED] * 3
    assert [verdict.why for verdict in verdicts[:2]] == [said] * 2
