"""Biases of a student that goes elsewhere without some of its quantizers."""

import copy
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from calibration.observers.minmax import MinMax
from calibration.samples import Samples
from pipeline.candidate import Candidate
from pipeline.data.dataset import inputs_for_network
from pipeline.graph.separate_outputs import doors_of
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.preparation import Preparation
from pipeline.stage import Run
from pipeline.stages import biases_anew
from pipeline.stages.biases_anew import corrected, with_biases_anew
from pipeline.stages.export import answers_of_onnx
from pipeline.stages.further_engines import without_quantizers
from pipeline.stages.quantize import FLOAT_BIASES
from pipeline.stages.rivals import INT8, Rival
from pipeline.stages.same_answers import torch_origin
from targets.engines.nothing import Nothing
from targets.runner import Place
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LeakyReLU(0.1),
        nn.Conv2d(8, 16, 1), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def test_biases_that_are_off_by_a_half_come_back_and_right_ones_are_left_alone() -> None:
    torch.manual_seed(0)
    graph, placement = watched(network().eval())
    reference = copy.deepcopy(graph)
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=SCHEME).eval()
    biases = {name: value.clone() for name, value in student.state_dict().items() if name.endswith("bias")}
    off = copy.deepcopy(student)
    off.load_state_dict({**off.state_dict(), **{name: value + 0.5 for name, value in biases.items()}})
    inputs = torch.randn(32, 3, 8, 8)
    found = corrected(off, float_biases=biases, samples=Samples(inputs, origin="the test"))
    assert found is not None
    with torch.no_grad():
        wanted, before, after = (each(inputs) for each in (reference, off, found))
    assert float((after - wanted).square().mean()) < 0.01 * float((before - wanted).square().mean())
    again = corrected(found, float_biases=biases, samples=Samples(inputs, origin="the test"))
    assert again is None  # the same steps lead to the same network, which is no better


@pytest.mark.parametrize("better", [True, False])
def test_the_2_files_and_the_torch_network_have_the_new_biases_where_they_are_better(
    better: bool, export_of: Callable[..., tuple[Candidate, Candidate, Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model, run = export_of(network, Preparation(observers={"minmax": MinMax()}, equalize=False))
    origin = torch_origin(model)
    assert (origin.path.parent / FLOAT_BIASES).is_file()  # the correction was kept
    rival = Rival(INT8, Nothing(), run.folder / "int8.null", origin, (("ONNX", model.path), ("lowered", model.path)))
    assert with_biases_anew(rival, run) is rival  # all its quantizers are there
    other = without_quantizers(rival, [Place.FUNCTION, Place.DEPTHWISE], run)
    monkeypatch.setattr(biases_anew, "corrected", lambda student, **_: _shifted(student) if better else None)
    anew = with_biases_anew(other, run)
    assert (anew is other) is not better
    if not better:
        return
    inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs)
    with torch.inference_mode():
        wanted, before = (each.origin.module()(torch.from_numpy(inputs)).numpy() for each in (anew, other))
    assert np.abs(wanted - before).min() > 0.5  # the last bias is 1 more
    assert doors_of(onnx.load(anew.files[0][1])) == doors_of(onnx.load(model.path))
    for _, file in anew.files:
        same = np.isclose(answers_of_onnx(file, inputs), wanted, rtol=1e-3, atol=1e-3).all(axis=1)
        assert same.mean() > 0.9  # a value on the edge between two codes may fall to either side


def _shifted(student: nn.Module) -> nn.Module:
    shifted = copy.deepcopy(student)
    *_, last = (name for name, _ in shifted.named_parameters() if name.endswith("bias"))
    shifted.get_parameter(last).data += 1.0
    return shifted
