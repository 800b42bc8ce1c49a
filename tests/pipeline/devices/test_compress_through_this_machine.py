"""`compress` for an x86 that is reached as a device, which is this machine: built, asked and timed by jobs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.integrity import read_manifest, refuse_damaged
from targets.budget import Limit
from targets.find import target_named
from targets.reach.device import Device

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
