"""What holds for every device that exists: its name, its budget, its engine, an answer to a three-layer model."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from targets.engines.absent import is_unbuilt
from targets.errors import DeviceMissing, EngineMissing
from targets.find import DEVICES, target_named, target_names
from targets.target import Scheme, Target


def three_layers(path: Path) -> Path:
    """Conv, ReLU, Conv, pool, Gemm for inputs of 3×8×8 and 10 classes."""
    random = np.random.default_rng(0)
    shapes = {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "w2": (8, 10)}
    constants = [
        numpy_helper.from_array(random.normal(0, 0.2, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="second"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
        helper.make_node("Gemm", ["e", "w2"], ["output"], name="third"),
    ]
    graph = helper.make_graph(
        nodes, "three layers",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 10])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture(params=target_names())
def target(request: pytest.FixtureRequest) -> Target:
    return target_named(request.param)


def test_there_are_at_least_2_devices() -> None:
    assert len(target_names()) >= 2


def test_the_name_is_the_file_name(target: Target) -> None:
    assert target.name in target_names()
    assert (DEVICES / f"{target.name.replace('-', '_')}.py").is_file()
    assert target.summary


def test_every_limit_of_the_budget_has_an_origin_and_every_device_a_source(target: Target) -> None:
    assert target.budget.limits
    assert [limit.origin for limit in target.budget.limits] == [f"target {target.name}"] * len(target.budget.limits)
    assert target.sources
    assert all(target.sources)


def test_the_engine_is_here_or_says_how_to_install_it(target: Target) -> None:
    try:
        runtime = target.engine.runtime
    except EngineMissing as missing:
        assert "install" in str(missing).lower()
    except DeviceMissing as missing:
        assert not target.is_here()
        assert f"{target.engine.name} runs on {target.name} itself" in str(missing)
    else:
        assert target.engine.name in runtime
        assert any(letter.isdigit() for letter in runtime)


def test_the_scheme_can_be_asked_for_and_gives_its_reason(target: Target) -> None:
    if not target.is_here() and target.profile is None:
        pytest.skip(f"the device is missing: this machine is not a {target.name}, which reads its scheme from there")
    scheme = target.scheme()
    assert isinstance(scheme, Scheme)
    assert scheme.why


def test_3_layers_are_built_opened_and_answered(target: Target, tmp_path: Path) -> None:
    if not target.is_here():
        pytest.skip(f"the device is missing: this machine is not a {target.name}")
    try:
        _ = target.engine.runtime
    except EngineMissing as missing:
        pytest.skip(f"the engine of {target.name} is missing: {missing}")
    engine = tmp_path / f"model{target.engine.suffix}"
    target.engine.build(three_layers(tmp_path / "model.onnx"), engine, threads=1)
    inputs = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    with closing(target.engine.open(engine, threads=1)) as runner:
        answers = runner(inputs)
        assert answers.shape == (5, 10)
        assert np.isfinite(answers).all()
        assert np.array_equal(runner(inputs), answers)
    operators = target.engine.operators(engine)
    assert operators.integer + operators.floating == len(operators.rows)
    assert all(row.integer or row.why for row in operators.rows)
    assert target.engine.peak_memory(engine, inputs[:1], threads=1) >= 0
    assert all(layer.median_ms >= 0 for layer in target.engine.layer_times(engine, inputs[:1], threads=1))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["model.onnx", engine.name])


def test_a_device_that_is_not_here_has_1_file_to_build_from_which_answers_and_has_no_times(
    target: Target, tmp_path: Path
) -> None:
    away = replace(target, is_here=lambda: False).from_here()
    assert is_unbuilt(away.engine.runtime)
    assert away.name in away.engine.runtime
    model, handed = three_layers(tmp_path / "model.onnx"), tmp_path / "lowered.onnx"
    away.engine.build(model, handed, threads=1)
    inputs = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    with closing(away.engine.open(handed, threads=1)) as runner:
        assert runner(inputs).shape == (5, 10)
    for measure in (away.engine.layer_times, away.engine.peak_memory):
        with pytest.raises(DeviceMissing, match=f"not measured on {target.name}: no device was given"):
            measure(handed, inputs[:1], threads=1)
