"""Biases stand on the grid on which the engine adds them, and engine and network then answer the same."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.graph.first_difference import Difference, differences, first_notable
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.fake_quant import GridPoint, QuantizedWeight, exportable
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.lowering import lowered_for
from pipeline.stages.export import onnx_of
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
COARSE = 40.0  # a range far beyond what is met: half a unit of a bias is then a good part of a step


class Shared(nn.Module):
    """A layer that is called twice, behind two quantizers."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x).relu()).relu()
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def student(*, amax: float = COARSE) -> torch.fx.GraphModule:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    ).eval()  # fmt: skip
    graph, placement = watched(network)
    return quantized(graph, placement, amax=dict.fromkeys(placement.activations, amax), scheme=SCHEME).eval()


def compared(graph: torch.fx.GraphModule) -> list[Difference]:
    canonical = onnx_of(copy.deepcopy(graph), input_shape=(3, 12, 12))
    inputs = np.random.default_rng(0).normal(size=(16, 3, 12, 12)).astype(np.float32) * 4
    return differences(
        exportable(copy.deepcopy(graph)),
        is_point=lambda module: isinstance(module, GridPoint) and module.axis is None,
        canonical=canonical, lowered=lowered_for(canonical, SCHEME), inputs=inputs,
    )  # fmt: skip


def test_each_bias_is_a_whole_number_of_units_and_moved_by_half_a_unit_at_most() -> None:
    graph = student()
    before = {name: layer.layer.bias.clone() for name, layer in layers(graph).items()}
    assert biases_on_grid(graph) == ("0", "2")
    for place, (name, layer) in enumerate(layers(graph).items()):
        of_input = COARSE / (127 if place == 0 else 255)  # the network's input is signed, the ReLU's answer is not
        unit = layer.quantizer._amax.flatten() / 63 * of_input
        units = layer.layer.bias / unit
        assert torch.allclose(units, units.round(), atol=1e-3)
        assert torch.all((layer.layer.bias - before[name]).abs() <= 0.5001 * unit)


def layers(graph: torch.fx.GraphModule) -> dict[str, QuantizedWeight]:
    return {name: each for name, each in graph.named_modules() if isinstance(each, QuantizedWeight)}


def test_on_the_grid_no_code_of_5_tensors_differs_from_the_engines_and_off_it_some_do() -> None:
    off = compared(student(amax=4.0))
    graph = student(amax=4.0)
    biases_on_grid(graph)
    on = compared(graph)
    assert len(on) == len(off) == 4
    # A sum in float32 may land on the other side of a middle between two codes: at most 1 of 10 000.
    assert max(row.share for row in on) <= 1e-4
    assert max(row.share for row in off) > 5 * max(row.share for row in on)
    worst = first_notable(off)
    assert worst is not None
    assert worst.share == max(row.share for row in off)


def test_a_layer_that_is_called_behind_2_quantizers_keeps_its_bias() -> None:
    graph, placement = watched(Shared().eval())
    quantized(graph, placement, amax={name: 1.0 + n for n, name in enumerate(placement.activations)}, scheme=SCHEME)
    assert biases_on_grid(graph.eval()) == ()
