"""The options of the quantize stage, each through the stage, its facts and the engine's ONNX file."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.errors import NetworkRefused
from pipeline.models.convnet import ConvNet
from pipeline.quantization.fake_quant import is_quantizer
from pipeline.quantization.lowering import lowered_for
from pipeline.report_teacher import teacher_bought
from pipeline.stage import Run
from pipeline.stages.export import answers_of_onnx, onnx_of
from pipeline.stages.quantize import Quantize
from pipeline.training.loop import Training
from pipeline.training.optimizers import Sgd
from targets.target import Scheme

ONE = Training(epochs=1, batch=16, optimizer=Sgd(lr=0.01))
NETWORK = partial(ConvNet, width=8, classes=4, channels=3)


@pytest.fixture
def quantized_with(
    tmp_path: Path,
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
) -> Callable[[Quantize], tuple[Candidate, Run]]:
    """Runs the stage on a small network with data of 4 classes."""

    def quantize(stage: Quantize) -> tuple[Candidate, Run]:
        data = tiny_data()
        teacher = candidate_in(tmp_path, NETWORK, data)
        run = run_in(tmp_path / "quantize", dataset=data, teacher=teacher)
        return stage(teacher, run), run

    return quantize


def same_in_the_engine(candidate: Candidate, run: Run, folder: Path) -> bool:
    scheme = Scheme(**candidate.facts["scheme"])
    inputs = inputs_for_network(run.dataset, run.dataset.test.inputs)
    model = onnx_of(candidate.module(), input_shape=run.dataset.input_shape)
    onnx.save(lowered_for(model, scheme), folder / "lowered.onnx")
    with torch.inference_mode():
        expected = candidate.module()(torch.from_numpy(inputs)).numpy()
    # a step of the last quantized tensor moves an answer by about a hundredth
    return bool(np.abs(answers_of_onnx(folder / "lowered.onnx", inputs) - expected).max() < 0.05)


def test_learned_steps_leave_an_ordinary_network_whose_engine_answers_alike_on_16_inputs(
    quantized_with: Callable[[Quantize], Any], tmp_path: Path
) -> None:
    candidate, run = quantized_with(Quantize(ONE, learned_steps=True))
    points = [each for each in candidate.module().modules() if is_quantizer(each)]
    assert len(points) >= 4
    assert same_in_the_engine(candidate, run, tmp_path)


def test_three_ways_are_compared_on_the_16_test_inputs_and_told_in_the_report(
    quantized_with: Callable[[Quantize], Any],
) -> None:
    candidate, run = quantized_with(Quantize(ONE, compare_without_teacher=True))
    told = candidate.facts["without_teacher"]
    assert set(told["test"]) == {"ptq", "qat", "qad"}
    assert told["test_inputs"] == len(run.dataset.test) == 16
    assert candidate.facts["validation_score"] == pytest.approx(told["validation"]["qad"])
    assert not (run.folder / "without_teacher").exists()
    assert teacher_bought({"stages": [{"name": "quantize", "facts": dict(candidate.facts)}]}) is not None


def test_1_layer_kept_in_float_has_no_quantizer_and_is_named_with_its_reason(
    quantized_with: Callable[[Quantize], Any], tmp_path: Path
) -> None:
    every, _ = quantized_with(Quantize(None))
    first = every.facts["placement"]["weights"][0]
    candidate, run = quantized_with(Quantize(None, keep_float=(first,)))
    placement = candidate.facts["placement"]
    assert placement["weights"] == every.facts["placement"]["weights"][1:]
    assert placement["kept_float"][first] == "asked for"
    assert same_in_the_engine(candidate, run, tmp_path)


def test_a_layer_that_does_not_exist_is_refused_with_the_nearest_name(
    quantized_with: Callable[[Quantize], Any],
) -> None:
    with pytest.raises(NetworkRefused, match="linaer"):
        quantized_with(Quantize(None, keep_float=("linaer",)))
