"""Activations stored around 128 instead of 0: not one bit of one answer changes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from torch import nn

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.lower_unsigned import activations_unsigned
from pipeline.stage import Run
from pipeline.stages.export import Export, answers_of_onnx
from pipeline.stages.quantize import Quantize
from targets.devices.x86_cpu import scheme_here
from targets.find import target_named

MakeRun = Callable[..., Run]
NETWORKS = {
    "option A": partial(ResNetCifar, 8, width=8, classes=4, shortcut="A"),  # zeros are padded in
    "option B": partial(ResNetCifar, 8, width=8, classes=4, shortcut="B"),
    "leaky": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.3), nn.MaxPool2d(2, padding=1), nn.Conv2d(8, 8, 3, padding=1),
        nn.Hardswish(), nn.AvgPool2d(2, padding=1), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def exported(
    request: pytest.FixtureRequest, run_in: MakeRun, candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset], tmp_path: Path,
) -> onnx.ModelProto:  # fmt: skip
    teacher = candidate_in(tmp_path / "t", NETWORKS[request.param], tiny_data())
    # Without zero points of their own, so that there are int8 activations to lower.
    target = replace(target_named("x86-cpu"), scheme=lambda: replace(scheme_here(), affine_activations=False))
    quantized = Quantize(training=None, samples=32)(teacher, run_in(tmp_path / "q", teacher=teacher, target=target))
    return onnx.load(Export(0.0)(quantized, run_in(tmp_path / "e", teacher=teacher, target=target)).path)


def zeros_of(model: onnx.ModelProto, kind: str) -> list[np.ndarray]:
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    return [constants[node.input[2]] for node in model.graph.node if node.op_type == kind]


def test_64_inputs_of_4_sizes_have_the_same_answers_to_the_last_bit(exported: onnx.ModelProto, tmp_path: Path) -> None:
    lowered = activations_unsigned(exported)
    onnx.checker.check_model(lowered, full_check=True)
    onnx.save(exported, tmp_path / "signed.onnx")
    onnx.save(lowered, tmp_path / "unsigned.onnx")
    random = np.random.default_rng(0)
    for size in (0.0, 0.1, 2.0, 1000.0):  # zeros, small, as calibrated, and every quantizer saturated
        inputs = (size * random.normal(size=(16, 3, 16, 16))).astype(np.float32)
        one, other = (answers_of_onnx(tmp_path / f"{name}.onnx", inputs) for name in ("signed", "unsigned"))
        assert np.array_equal(one, other)


def test_every_activation_is_uint8_around_0_or_128_and_every_weight_int8(exported: onnx.ModelProto) -> None:
    lowered = activations_unsigned(exported)
    zeros = zeros_of(lowered, "QuantizeLinear")
    assert {(zero.dtype.name, int(zero)) for zero in zeros} <= {("uint8", 0), ("uint8", 128)}
    assert sum(int(zero) == 128 for zero in zeros) == sum(
        zero.dtype == np.int8 for zero in zeros_of(exported, "QuantizeLinear")
    )
    stored = {each.name: each for each in lowered.graph.initializer}
    weights = [stored[node.input[0]] for node in lowered.graph.node if node.input and node.input[0] in stored]
    assert weights
    assert {each.data_type for each in weights} == {TensorProto.INT8}


def test_the_model_given_is_left_alone_and_lowering_twice_is_lowering_1_time(exported: onnx.ModelProto) -> None:
    before = exported.SerializeToString()
    once = activations_unsigned(exported)
    assert exported.SerializeToString() == before
    assert activations_unsigned(once).SerializeToString() == once.SerializeToString()


def test_no_constant_has_2_readers_or_none(exported: onnx.ModelProto) -> None:
    graph = activations_unsigned(exported).graph
    readers = [name for node in graph.node for name in node.input]
    assert [each.name for each in graph.initializer if readers.count(each.name) != 1] == []
