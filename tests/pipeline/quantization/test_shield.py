"""A float layer between two quantizers: the runtime would quantize it, and behind a shield it does not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import fx, nn

from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.shield import shielded
from pipeline.stages.export import onnx_of
from targets.find import target_named
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")


def student(keep_float: tuple[str, ...]) -> fx.GraphModule:
    """Three convolutions and a linear layer; the first weight of the second one is 100 times the others."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )  # fmt: skip
        network[2].weight[0] *= 100
        network[4].weight[:, 0] /= 100
    graph, placement = watched(network.eval(), keep_float=keep_float)
    amax = {name: 100.0 if "_3" in name else 3.0 for name in placement.activations}
    return quantized(graph, placement, amax=amax, scheme=SCHEME).eval()


def integer_products(graph: fx.GraphModule, folder: Path) -> int:
    target = target_named("x86-cpu")
    if not target.is_here():
        pytest.skip("an x86 processor is missing")
    source, engine = folder / "model.onnx", folder / "model.engine.onnx"
    onnx.save(lowered_for(onnx_of(graph, input_shape=(3, 12, 12)), SCHEME), source)
    target.engine.build(source, engine, threads=1)
    return target.engine.operators(engine).integer


def test_1_of_3_convolutions_is_float_in_the_engine_behind_a_shield_alone(tmp_path: Path) -> None:
    assert integer_products(shielded(student(("2",))), tmp_path) == 2
    # What makes the shield needed; should a newer runtime give 2 here, the shield can go.
    assert integer_products(student(("2",)), tmp_path) == 3


def test_a_shield_changes_0_bits_of_the_answers_and_no_name_of_a_weight() -> None:
    plain, behind = student(("2",)), shielded(student(("2",)))
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 12, 12)).astype(np.float32))
    with torch.no_grad():
        assert torch.equal(plain(inputs), behind(inputs))
    assert list(plain.state_dict()) == list(behind.state_dict())
    assert [str(node.target) for node in behind.graph.nodes if "shields" in str(node.target)] == ["shields._2"]


@pytest.mark.parametrize("keep_float", [(), ("0",), ("4",), ("0", "2")])
def test_layers_of_which_1_side_is_float_get_no_shield(keep_float: tuple[str, ...]) -> None:
    nodes = shielded(student(keep_float)).graph.nodes
    assert [node for node in nodes if "shields" in str(node.target)] == []
