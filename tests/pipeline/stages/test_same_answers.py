"""How strictly an engine is compared with the torch network that it was made from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline.candidate import Candidate
from pipeline.data.dataset import inputs_for_network
from pipeline.models.convnet import ConvNet
from pipeline.quantization.float_kernels import quantized_products, with_float_kernels
from pipeline.quantization.integer_reference import integers_of
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.rivals import INT8, Rival
from pipeline.stages.same_answers import Parity, torch_origin
from pipeline.stages.same_integers import Bridge


class Told:
    """An engine whose answers are these, in order."""

    def __init__(self, answers: np.ndarray) -> None:
        self.answers = answers

    def open(self, _path: Path, *, threads: int) -> "Told":
        self.left = iter(self.answers)
        return self

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.stack([next(self.left) for _ in inputs])

    def close(self) -> None:
        """Nothing is held."""


def test_a_float_engine_that_answers_otherwise_fails(
    tmp_path: Path, run_in: Callable[..., Run], candidate_in: Callable[..., Candidate]
) -> None:
    run = run_in(tmp_path / "build")
    origin = candidate_in(tmp_path, partial(ConvNet, width=8, classes=4, channels=3), run.dataset)
    draws: list[Any] = [np.random.default_rng(seed).normal(size=(16, 4)) for seed in range(3)]
    kept = {("float64", origin.digest, "test"): draws[0], ("float32", origin.digest, "test"): draws[0] + draws[1]}
    parity = Parity(run, 0.999, kept)
    rival = Rival("float", Told(draws[0] + draws[2]), tmp_path, origin, ())  # type: ignore[arg-type]
    assert parity.fails(parity.on(run.dataset.test, rival))
    assert parity.rounding(run.dataset.test, origin) == pytest.approx(np.sqrt(np.square(draws[1]).mean()))


@pytest.mark.parametrize("wrong", [False, True], ids=["the student's integers", "one answer beside them"])
def test_where_torch_s_roundings_decide_the_integers_settle_who_is_right(
    wrong: bool, exported: tuple[Candidate, Candidate, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, run = exported
    lowered = Build()._lowered(model, run)
    loaded = onnx.load(lowered)
    inputs = inputs_for_network(run.dataset, run.dataset.test.inputs)
    door, exit_ = loaded.graph.input[0].name, loaded.graph.output[0].name
    answers = np.concatenate([
        integers_of(loaded, {door: each[None]}, as_avx2=True)[exit_] for each in inputs
    ])  # fmt: skip
    origin, other = torch_origin(model), np.roll(answers, 1, axis=1)  # as if torch saw other classes
    if wrong:
        answers[3] += 0.01 * np.abs(answers[3]).max()
    monkeypatch.setattr(type(run.target.engine), "open", lambda *_, **__: Told(answers).open(lowered, threads=1))
    parity = Parity(run, 0.999, {("float64", origin.digest, "test"): other})
    rival = Rival(INT8, run.target.engine, lowered, origin, (("ONNX", model.path), ("lowered ONNX", lowered)))
    same = parity.on(run.dataset.test, rival)
    assert parity.fails(same) is wrong
    assert (same.in_integers > 1, same.clearly_unequal > 1) == (not wrong, wrong)


@pytest.mark.parametrize("wrong", [0, 1, 2], ids=["as it is", "an answer beside its layers", "a layer beside integers"])
def test_an_engine_with_2_float_kernels_is_settled_layer_by_layer(
    wrong: int, exported: tuple[Candidate, Candidate, Run], tmp_path: Path
) -> None:
    _, model, run = exported
    lowered, file = Build()._lowered(model, run), tmp_path / "mixed.onnx"
    integer = onnx.load(lowered)
    chosen = quantized_products(integer)[:3:2]
    mixed = with_float_kernels(integer, chosen)
    if wrong == 2:
        weight = next(each for each in mixed.graph.initializer if each.name == f"{chosen[1]}.weight")
        weight.CopyFrom(numpy_helper.from_array(1.1 * numpy_helper.to_array(weight), weight.name))
    onnx.save(mixed, file)
    path = tmp_path / f"mixed{run.target.engine.suffix}"
    run.target.engine.build(file, path, threads=1)
    inputs = inputs_for_network(run.dataset, run.dataset.test.inputs[:4])
    runner = run.target.engine.open(path, threads=1)
    answers = np.concatenate([runner(each[None]) for each in inputs])
    if wrong == 1:
        answers[3] += 0.01 * np.abs(answers[3]).max()
    bridge = Bridge(torch_origin(model).module(), model.path, lowered)
    assert bridge.layers_like(inputs, answers, built_from=file, engine=run.target.engine) is (wrong == 0)


def test_a_file_that_does_not_say_what_torch_computes_is_found_out_by_its_layer(
    exported: tuple[Candidate, Candidate, Run], tmp_path: Path
) -> None:
    _, model, run = exported
    inputs = inputs_for_network(run.dataset, run.dataset.test.inputs[:2])
    student = torch_origin(model).module
    assert Bridge(student(), model.path, model.path).layer_that_differs(inputs) == ""
    changed, path = onnx.load(model.path), tmp_path / "changed.onnx"
    layer = [node for node in changed.graph.node if node.op_type == "Conv"][3]
    codes = {each.name: each for each in changed.graph.initializer}
    bias = codes[layer.input[2]]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(changed, path)
    said = Bridge(student(), path, path).layer_that_differs(inputs)
    assert "layer2_0_relu1" in said
    assert "% of the codes differ" in said
