"""The padded subsampling of shortcut A as one integer convolution: the same codes, fewer operators."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from pipeline.models.resnet_cifar import PaddedSubsample, ResNetCifar
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.integer_reference import differences
from pipeline.quantization.lower_pad import padded_in_integers
from pipeline.quantization.lower_subsample import shortcuts_convolved
from pipeline.quantization.lower_unsigned import activations_unsigned
from pipeline.quantization.lowering import lowered_for
from pipeline.stages.export import answers_of_onnx, onnx_of
from targets.target import Scheme

SEVEN = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
SIGNED = Scheme(weight_bits=7, unsigned_activations=False, signed_zero_point=128, why="for the test")
resnet = partial(ResNetCifar, 8, width=8, classes=4)


class Uneven(nn.Module):
    """A pooling over one pixel whose padding is another one than that of a shortcut."""

    def __init__(self, *, rows: int) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
        self.rows = rows

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.first(x).relu(), 1, 2)
        x = nn.functional.pad(x, (0, 0, self.rows, 0))
        return self.head(self.second(x).relu().mean((2, 3)))  # type: ignore[no-any-return]


def exported(network: nn.Module, scheme: Scheme) -> onnx.ModelProto:
    torch.manual_seed(0)
    graph, placement = watched(network.eval())
    quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=scheme)
    return onnx_of(graph.eval(), input_shape=(3, 16, 16))


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("scheme", [SEVEN, SIGNED], ids=["zero 0", "zero 128"])
def test_2_shortcuts_become_2_convolutions_and_no_code_changes(scheme: Scheme, tmp_path: Path) -> None:
    canonical = exported(resnet(), scheme)
    lowered = lowered_for(canonical, scheme)
    assert kinds(canonical).count("MaxPool") == kinds(canonical).count("Pad") == 2
    assert "MaxPool" not in kinds(lowered)
    assert "Pad" not in kinds(lowered)
    assert kinds(lowered).count("Conv") == kinds(canonical).count("Conv") + 2
    onnx.checker.check_model(lowered, full_check=True)
    inputs = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    former = padded_in_integers(activations_unsigned(canonical))
    answers = []
    for name, model in (("now", lowered), ("former", former)):
        onnx.save(model, tmp_path / f"{name}.onnx")
        answers.append(np.concatenate([answers_of_onnx(tmp_path / f"{name}.onnx", row[None]) for row in inputs]))
    assert np.array_equal(*answers)
    for factor in (1.0, 100.0):  # the second saturates nearly everything
        found = differences(canonical, lowered, {"input": factor * inputs[:1]})
        assert [each for each in found if each.largest is not None] == []  # the tensors within the pair are gone


def test_the_convolution_moves_every_second_pixel_between_2_zero_channels() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), PaddedSubsample(stride=2, padding=1), nn.Conv2d(6, 2, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2),
    )  # fmt: skip
    lowered = lowered_for(exported(network, SEVEN), SEVEN)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in lowered.graph.initializer}
    (weight,) = (value for value in constants.values() if value.shape == (6, 4, 1, 1))
    assert np.array_equal(weight[:, :, 0, 0], np.vstack([np.zeros(4), np.eye(4), np.zeros(4)]))


def test_a_padding_of_1_row_stays() -> None:
    model = activations_unsigned(exported(Uneven(rows=1), SEVEN))
    assert kinds(shortcuts_convolved(model)).count("MaxPool") == 1
