"""The published ImageNet networks: by count, through trace and placement, and with their published weights.

The figures over 500 photographs come with the photographs. Those over the first 60 were measured once and pinned: the
closest decision among them is 0.006 wide, and another order of float sums moves an answer by less than 0.0001.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.data.photographs import Photographs
from pipeline.graph.trace import layer_of, traced
from pipeline.models.checkpoint import load_state, state_from_file
from pipeline.models.mobilenet_v1 import MobileNetV1, mobilenet_v1_025
from pipeline.models.mobilenet_v2 import mobilenet_v2
from pipeline.models.squeezenet import squeezenet_1_1
from pipeline.quantization.fold import NORMS, batch_norm_folded
from pipeline.quantization.placement import Placement, placement_on

FACTORIES: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v1_x0.25_fp32": mobilenet_v1_025,
    "squeezenet1_1_from_ncnn_fp16": squeezenet_1_1,
    "mobilenet_v2_from_tflite_int8": mobilenet_v2,
}


def weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def separable(inputs: int, outputs: int) -> int:
    return 9 * inputs + 2 * inputs + inputs * outputs + 2 * outputs  # two kernels, two batch norms


def fire(inputs: int, squeezed: int, expanded: int) -> int:
    return (inputs + 1) * squeezed + (squeezed + 1) * expanded + (9 * squeezed + 1) * expanded


def bottleneck(inputs: int, outputs: int, expansion: int) -> int:
    inner = inputs * expansion
    widening = (inputs + 2) * inner if expansion > 1 else 0
    return widening + (9 + 2) * inner + (inner + 2) * outputs


def test_mobilenet_v1_at_a_quarter_has_470072_weights() -> None:
    channels = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    blocks = sum(separable(a, b) for a, b in pairwise(channels))
    assert 27 * 8 + 16 + blocks + 257 * 1000 == 470_072 == weights(mobilenet_v1_025())


def test_mobilenet_v2_has_3504872_weights() -> None:
    channels = [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
    blocks = bottleneck(32, 16, 1) + sum(bottleneck(a, b, 6) for a, b in pairwise(channels))
    assert 27 * 32 + 64 + blocks + 322 * 1280 + 1281 * 1000 == 3_504_872 == weights(mobilenet_v2())


def test_squeezenet_1_1_has_1235496_weights() -> None:
    narrow = fire(64, 16, 64) + fire(128, 16, 64) + fire(128, 32, 128) + fire(256, 32, 128)
    wide = fire(256, 48, 192) + fire(384, 48, 192) + fire(384, 64, 256) + fire(512, 64, 256)
    assert 28 * 64 + narrow + wide + 513 * 1000 == 1_235_496 == weights(squeezenet_1_1())


@pytest.mark.parametrize("width", [0.0, -1.0, 5.0])
def test_a_width_outside_of_0_to_4_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="width"):
        MobileNetV1(width=width)


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_a_trace_answers_2_pictures_with_1000_numbers_each_as_the_network_does(
    factory: Callable[[], nn.Module],
) -> None:
    network = factory().eval()
    inputs = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        answers = network(inputs)
        assert torch.equal(traced(network)(inputs), answers)
    assert answers.shape == (2, 1000)


def placed(factory: Callable[[], nn.Module]) -> Placement:
    graph = batch_norm_folded(traced(factory().eval()))
    assert not any(isinstance(layer_of(graph, node), NORMS) for node in graph.graph.nodes)
    return placement_on(graph)


def test_mobilenet_v1_gets_27_quantized_weights_and_56_tensors_with_one_for_each_leaky_relu() -> None:
    placement = placed(mobilenet_v1_025)
    assert len(placement.weights) == 1 + 2 * 13
    # the input, each convolution, each LeakyReLU (its convolution keeps a range of its own), and the mean
    assert len(placement.activations) == 1 + 27 + 27 + 1
    assert not any(placement.activations.values())  # below zero too
    assert list(placement.kept_float) == ["fc"]


def test_mobilenet_v2_gets_52_quantized_weights_and_64_tensors() -> None:
    placement = placed(mobilenet_v2)
    assert len(placement.weights) == 1 + 2 + 16 * 3 + 1
    assert len(placement.activations) == 1 + 52 + 10 + 1  # the input, each convolution, ten additions, the mean
    # 35 convolutions with a ReLU6, and the mean of the last; the 17 narrow ends and the sums have both signs
    assert sum(placement.activations.values()) == 36
    assert list(placement.kept_float) == ["classifier.1"]


def test_squeezenet_gets_26_quantized_weights_and_19_quantizers_for_35_tensors_and_no_layer_stays_float() -> None:
    placement = placed(squeezenet_1_1)
    assert len(placement.weights) == 1 + 8 * 3 + 1
    assert len(placement.activations) == 1 + 10 + 8  # the input, each convolution alone, each two put side by side
    assert len(placement.repeats) == 2 * 8 + 3  # the second of the two, and both as one; max pooling
    assert placement.kept_float == {}


@pytest.fixture(scope="module")
def photographs(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = data_folder / "imagenet-compatible-500"
    if not folder.is_dir():
        pytest.skip(f"missing: {folder}")
    return Photographs()(folder, cache=tmp_path_factory.mktemp("photographs"))


def correct(name: str, photographs: Dataset, data_folder: Path, *, n: int) -> int:
    """How many of the first `n` lines of labels.csv the network with the published weights answers right."""
    path = data_folder / "imagenet-models" / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"missing: {path}")
    network = FACTORIES[name]()
    load_state(network, state_from_file(path), path=path)
    network.eval()
    right = 0
    with torch.inference_mode():
        for split in photographs.splits:
            places = np.flatnonzero(split.indices < n)
            for rows in np.array_split(places, max(1, len(places) // 25)):
                inputs = torch.from_numpy(inputs_for_network(photographs, split.inputs[rows]))
                right += int((network(inputs).argmax(1).numpy() == split.labels[rows]).sum())
    return right


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mobilenet_v1_x0.25_fp32", 27), ("squeezenet1_1_from_ncnn_fp16", 25), ("mobilenet_v2_from_tflite_int8", 51)],
)
def test_of_the_first_60_photographs_as_many_are_right_as_were_measured(
    name: str, expected: int, photographs: Dataset, data_folder: Path
) -> None:
    assert correct(name, photographs, data_folder, n=60) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("mobilenet_v1_x0.25_fp32", 51.4),
        ("squeezenet1_1_from_ncnn_fp16", 46.8),
        ("mobilenet_v2_from_tflite_int8", 83.8),
    ],
)
def test_of_all_500_photographs_the_published_share_is_right(
    name: str, percent: float, photographs: Dataset, data_folder: Path
) -> None:
    # 0.4 points are two photographs, room for another decoder of JPEG: it moves a pixel by a level or two
    assert abs(100 * correct(name, photographs, data_folder, n=500) / 500 - percent) <= 0.4 + 1e-9
