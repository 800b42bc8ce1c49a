"""What a layer in float costs: multiply-accumulates by hand, and times of real engines told apart by layer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.layer_prices import (
    layers_in_order,
    macs_by_layer,
    prices_from_macs,
    prices_from_times,
    times_by_layer,
)
from pipeline.quantization.lowering import lowered_for
from pipeline.stages.export import onnx_of
from targets.find import target_named
from targets.runner import LayerTime
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")


def leaky() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6(),
        nn.Conv2d(8, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def test_4_layers_have_the_multiply_accumulates_that_one_counts_on_paper() -> None:
    graph, placement = watched(leaky().eval())
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=SCHEME).eval()
    macs = macs_by_layer(student, one=torch.zeros(1, 3, 16, 16))
    assert macs == {"0": 8 * 64 * 27, "2": 8 * 64 * 9, "4": 16 * 64 * 8, "8": 16 * 4}
    prices = prices_from_macs(student, one=torch.zeros(1, 3, 16, 16), why="no clock")
    assert prices.of(("2", "4")) == 8 * 64 * 9 + 16 * 64 * 8
    assert prices.origin == "multiply-accumulates (no clock)"


def test_a_transposed_convolution_costs_its_inputs_times_its_kernel() -> None:
    graph, _ = watched(nn.Sequential(nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 3, 2, 2), nn.Conv2d(3, 1, 1)).eval())
    assert macs_by_layer(graph, one=torch.zeros(1, 2, 5, 5))["1"] == 4 * 25 * 3 * 4


def test_a_layer_costs_what_integers_save_but_at_least_a_5th_of_its_float_time() -> None:
    prices = prices_from_times({"a": 3.0, "b": 1.0, "c": 0.0, "last": 1.0}, {"a": 1.0, "b": 2.0, "c": 0.0})
    assert prices.by_layer == {"a": 2.0, "b": 0.2, "c": 1e-6}
    assert prices.unit == "ms"


@pytest.mark.parametrize(
    "make", [leaky, *(partial(ResNetCifar, 8, width=8, classes=4, shortcut=kind) for kind in ("A", "B"))]
)
def test_every_layer_is_found_in_the_times_of_both_engines(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    target = target_named("x86-cpu")
    if not target.is_here():
        pytest.skip("an x86 processor is missing")
    graph, placement = watched(make().eval())
    layers = layers_in_order(graph)
    for name in ("float", "integer"):
        if name == "integer":
            graph = quantized(watched(make().eval())[0], placement, amax=dict.fromkeys(placement.activations, 3.0),
                              scheme=SCHEME).eval()  # fmt: skip
        model = lowered_for(onnx_of(graph, input_shape=(3, 16, 16)), SCHEME)
        source, engine = tmp_path / f"{name}.onnx", tmp_path / f"{name}.engine.onnx"
        onnx.save(model, source)
        target.engine.build(source, engine, threads=1)
        times = target.engine.layer_times(engine, np.zeros((1, 3, 16, 16), np.float32), threads=1)
        found = times_by_layer(model, times, layers=layers)
        assert found is not None
        assert sorted(found) == sorted(layers)
        # Additions, pools and conversions belong to no layer.
        assert sum(found.values()) < sum(row.median_ms for row in times)


def test_1_layer_that_is_not_found_leaves_none_with_a_time() -> None:
    model = onnx_of(watched(leaky().eval())[0], input_shape=(3, 16, 16))
    times = [LayerTime("/0/Conv", "Conv", False, 1.0)]
    assert times_by_layer(model, times, layers=["0", "2", "4", "8"]) is None
    assert times_by_layer(model, times, layers=["0"]) is None
