"""An INT8 engine that is slower for certain is not handed over; the float engine of the same network is."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import pipeline.stages.build
from pipeline.candidate import Candidate
from pipeline.data.dataset import inputs_for_network
from pipeline.manifest import onnx_file
from pipeline.measure import measure
from pipeline.report_blocks import Table
from pipeline.report_engine import rivals
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.rivals import Rival
from pipeline.stages.same_answers import float_parent, torch_origin
from targets.engines.ort import OnnxRuntime


def timed(monkeypatch: pytest.MonkeyPatch, *, float_ms: float, int8_ms: float) -> None:
    def times(rivals: Sequence[Rival], _run: Run) -> tuple[tuple[float, ...], ...]:
        assert [rival.arithmetic for rival in rivals] == ["int8", "float"]
        return (int8_ms,) * 400, (float_ms,) * 400

    monkeypatch.setattr(pipeline.stages.build, "timed", times)


def integer_ops(engine: Path) -> int:
    return OnnxRuntime().operators(engine).integer


def test_an_int8_engine_that_takes_3_ms_against_2_is_not_handed_over(
    exported: tuple[Candidate, Candidate, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, model, run = exported
    timed(monkeypatch, float_ms=2.0, int8_ms=3.0)
    built = Build(0.0, further_engines=False, float_kernels=False)(model, run)
    assert integer_ops(built.path) == 0
    assert onnx_file(built).name == "float.onnx"
    assert not [node for node in onnx.load(onnx_file(built)).graph.node if "Quantize" in node.op_type]
    inputs = inputs_for_network(run.dataset, run.dataset.test.inputs[:4])
    with torch.inference_mode():
        expected = parent.module()(torch.from_numpy(inputs)).numpy()
    runner = OnnxRuntime().open(built.path, threads=1)
    # Float32 sums in another order, after batch norm was folded.
    np.testing.assert_allclose(np.concatenate([runner(row[None]) for row in inputs]), expected, rtol=1e-3, atol=1e-4)
    int8, floating = built.facts["rivals"]
    assert (int8["shipped"], floating["shipped"]) == (False, True)
    assert int8["layers"]
    section = rivals({"stages": [{"facts": built.facts}]})
    assert section is not None
    tables = [part for part in section.parts if isinstance(part, Table)]
    assert len(tables) == 3  # the two engines, and where the time of each goes


def test_an_int8_engine_that_takes_2_ms_against_3_is_handed_over(
    exported: tuple[Candidate, Candidate, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, run = exported
    timed(monkeypatch, float_ms=3.0, int8_ms=2.0)
    built = Build(0.0, further_engines=False, float_kernels=False)(model, run)
    assert integer_ops(built.path) == 7  # every convolution
    assert onnx_file(built) == model.path
    assert [rival["shipped"] for rival in built.facts["rivals"]] == [True, False]
    assert built.facts["rivals"][0]["speedup"] == 1.5


def test_the_parent_of_2_quantizers_is_the_float_network_and_a_float_network_has_no_rival(
    exported: tuple[Candidate, Candidate, Run],
) -> None:
    parent, model, _ = exported
    assert float_parent(model) == parent
    assert float_parent(parent) is None


def test_two_real_engines_are_timed_and_the_faster_or_an_undecided_int8_is_handed_over(
    exported: tuple[Candidate, Candidate, Run],
) -> None:
    _, model, run = exported
    built = Build(0.0, further_engines=False, float_kernels=False)(model, run)
    int8, floating = built.facts["rivals"]
    assert int8["p50_ms"] > 0
    assert floating["p50_ms"] > 0
    assert int8["shipped"] == (int8["interval"][1] >= 1)
    assert (integer_ops(built.path) > 0) == int8["shipped"]


def test_of_4_engines_that_of_openvino_takes_1_ms_and_is_handed_over_with_its_own_facts(
    exported: tuple[Candidate, Candidate, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is missing: pip install 'edge-compress[openvino]'")
    _, model, run = exported

    def times(rivals: Sequence[Rival], _run: Run) -> tuple[tuple[float, ...], ...]:
        named = [(rival.arithmetic, rival.engine.name) for rival in rivals]
        assert named == [("int8", "onnxruntime"), ("float", "onnxruntime"), ("int8", "openvino"), ("float", "openvino")]
        return tuple((each,) * 400 for each in (2.0, 3.0, 1.0, 4.0))

    monkeypatch.setattr(pipeline.stages.build, "timed", times)
    built = Build(float_kernels=False)(model, run)
    assert built.path.name == "int8.openvino"
    assert built.facts["runtime"].startswith("openvino ")
    assert built.facts["operators"]["integer"] == 7  # every convolution
    assert onnx_file(built).name == "without-sum.onnx"  # what OpenVINO computes of a residual network
    assert [rival["shipped"] for rival in built.facts["rivals"]] == [False, False, True, False]
    assert built.facts["rivals"][2]["speedup"] == 3.0  # over the float engine of the target's own runtime
    assert built.facts["rivals"][0]["why_not"] == "0.50× as fast (interval 0.50 to 0.50)"
    assert [bool(rival.get("layers")) for rival in built.facts["rivals"]] == [True, False, True, False]
    measured = measure(built, run_of_measuring(run, built), teacher=None).measurement
    assert measured.conditions is not None
    assert measured.conditions.runtime == built.facts["runtime"]
    assert rivals({"stages": [{"facts": built.facts}]}) is not None


def run_of_measuring(run: Run, built: Candidate) -> Run:
    """The run with a teacher, whose digest the measurement is kept by."""
    return replace(run, teacher=torch_origin(built))
