"""Four devices that are not here: what they build from is lowered, checked and measured as far as it can be."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import pipeline.stages.build
from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.measure import measure
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from targets.find import target_named
from targets.target import Target
from targets.verdict import Outcome, verdicts_on

network = partial(ResNetCifar, 8, width=8, classes=4)
# Of the activations' codes: TensorRT takes int8 around 0, ARM64 int8, x86 uint8.
CODES = {"jetson-orin": "int8", "jetson-thor": "int8", "arm64-cpu": "int8", "x86-vnni": "uint8"}


@pytest.fixture(params=list(CODES))
def away(request: pytest.FixtureRequest) -> Target:
    return replace(target_named(request.param), is_here=lambda: False).from_here()


@pytest.fixture
def built(
    away: Target,
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Candidate, Run]:
    def never(*_: Any) -> None:
        raise AssertionError("nothing is timed for a device that is not here")

    monkeypatch.setattr(pipeline.stages.build, "timed", never)
    teacher = candidate_in(tmp_path / "teacher", network, tiny_data())

    def run(name: str) -> Run:
        return run_in(tmp_path / name, target=away, teacher=teacher)

    child = Quantize(training=None)(teacher, run("quantize"))
    return Build(0.9)(Export(0.9)(child, run("export")), run("build")), run("build")


def test_the_1_file_that_is_handed_over_is_the_lowered_one_in_the_form_of_the_device(
    built: tuple[Candidate, Run], away: Target
) -> None:
    candidate, run = built
    assert candidate.path.read_bytes() == (run.folder / "lowered.onnx").read_bytes()
    model = onnx.load(candidate.path)
    assert refusals(model, rules_from_scheme(away.scheme())) == []
    written = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    kinds = {each.data_type for each in model.graph.initializer if each.name in written}
    assert kinds == {getattr(TensorProto, CODES[away.name].upper())}
    half = model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    assert half == (away.name == "jetson-thor")
    assert candidate.facts["runtime"].startswith("unbuilt")
    assert candidate.facts["operators"]["integer"] == 7  # every convolution; the last layer stays in float
    assert candidate.facts["rivals"] == []
    assert len(candidate.facts["hops"]) >= 3


def test_accuracy_is_measured_and_stays_undecided_like_the_3_numbers_that_need_the_device(
    built: tuple[Candidate, Run], away: Target
) -> None:
    candidate, run = built
    teacher = measure(run.the_teacher(), run, teacher=None)
    measurement = measure(candidate, run, teacher=teacher.engine).measurement
    said = f"not measured on {away.name}: no device was given"
    assert dict(measurement.missing) == dict.fromkeys(("latency", "pairs", "peak_memory_bytes"), said)
    assert measurement.accuracy is not None
    assert measurement.accuracy.n == len(run.dataset.test)
    assert measurement.conditions is not None
    assert not measurement.conditions.on_target
    assert np.isfinite(measurement.accuracy.value)
    verdicts = verdicts_on(measurement, budget=away.budget, teacher=teacher.measurement.accuracy)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.UNDECIDED] * 3
    assert [verdict.why for verdict in verdicts[:2]] == [said, said]
    assert f"not on {away.name}: measure on the target" in verdicts[2].why
