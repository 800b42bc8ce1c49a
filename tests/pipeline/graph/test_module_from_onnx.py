"""Whole networks from ONNX: our own exporter's and real ones answer as ONNX Runtime does, and can be quantized."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pipeline.errors import NetworkRefused
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.graph.onnx_node import readable_name
from pipeline.graph.trace import traced
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.fold import batch_norm_folded
from pipeline.quantization.placement import placement_on


def trained_looking(network: nn.Module) -> nn.Module:
    """The network with batch norm statistics that are not the trivial ones."""
    generator = torch.Generator().manual_seed(5)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, generator=generator) * 0.1
            layer.running_var = torch.rand(layer.num_features, generator=generator) + 0.5
    return network.eval()


def test_a_resnet_exported_and_imported_answers_the_same_and_places_as_many_quantizers(
    tmp_path: Path, same_answers: Callable[..., Any]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = trained_looking(ResNetCifar(8))
    path = tmp_path / "resnet.onnx"
    onnx.save(onnx_from_torch(network, input_shape=(3, 32, 32)), path)
    imported = same_answers(path, shape=(3, 32, 32))
    inputs = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # the exporter has folded batch norm: float32 rounding of the weights
        torch.testing.assert_close(imported(inputs), network(inputs), rtol=1e-4, atol=1e-4)
    first, second = (placement_on(batch_norm_folded(traced(each))) for each in (network, imported))
    assert len(first.weights) == len(second.weights) > 6
    assert len(first.activations) == len(second.activations)
    assert sorted(first.activations.values()) == sorted(second.activations.values())
    assert len(first.kept_float) == len(second.kept_float) == 1


def test_an_imported_network_is_exported_again_with_the_same_answers(
    tmp_path: Path, same_answers: Callable[..., Any]
) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2), nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    onnx.save(onnx_from_torch(trained_looking(network), input_shape=(3, 12, 12)), first)
    onnx.save(onnx_from_torch(module_from_onnx(first), input_shape=(3, 12, 12)), second)
    imported = same_answers(second, shape=(3, 12, 12))
    assert [type(layer) for layer in imported.children()] == [
        nn.Conv2d, nn.ReLU6, nn.MaxPool2d, nn.Conv2d, nn.Hardswish, nn.AdaptiveAvgPool2d, nn.Linear,
    ]  # fmt: skip


class Attention(nn.Module):
    """Attention as torch writes it, which joins the batch behind the places: (L, B, E) → (L·B, E)."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.cut(x).flatten(2).transpose(1, 2))  # (B, L, E)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        answer: torch.Tensor = self.last(nn.functional.gelu(x).mean(1))
        return answer


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("opset", [14, 17])
def test_attention_of_2_heads_answers_for_batches_of_1_and_3(
    free: bool, opset: int, tmp_path: Path, same_answers: Callable[..., Any]
) -> None:
    path = tmp_path / "attention.onnx"
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns that it is deprecated
        torch.manual_seed(0)
        axes = {"input": {0: "n"}} if free else None
        torch.onnx.export(
            Attention().eval(), (torch.zeros(1, 3, 16, 16),), str(path), dynamo=False, opset_version=opset,
            input_names=["input"], dynamic_axes=axes,
        )  # fmt: skip
    network = same_answers(path, shape=(3, 16, 16))
    assert len([layer for layer in network.modules() if isinstance(layer, nn.Linear)]) == 3


def test_an_imported_network_has_readable_names_and_learns(tmp_path: Path) -> None:
    path = tmp_path / "resnet.onnx"
    onnx.save(onnx_from_torch(ResNetCifar(8), input_shape=(3, 32, 32)), path)
    network = module_from_onnx(path)
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    assert all("conv" in name or "shortcut" in name for name in names), names
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "operator", "readable"),
    [
        ("/layer1/layer1.0/conv1/Conv", "Conv", "layer1_0_conv1"),
        ("/stage1/stage1.0/relu_1/Relu", "Relu", "stage1_0_relu_1"),
        ("/Add_3", "Add", "add_3"),
        ("12", "Conv", "conv_12"),
        ("für/Conv", "Conv", "f_r"),
        ("class", "Relu", "relu_class"),
        ("///", "Relu", ""),
    ],
)
def test_a_name_becomes_1_identifier(name: str, operator: str, readable: str) -> None:
    assert readable_name(name, operator) == readable
    assert not readable or readable.isidentifier()


def test_fastestdet_of_67_quantized_layers_answers_as_onnx_runtime(
    data_folder: Path, same_answers: Callable[..., Any]
) -> None:
    path = data_folder / "fastestdet" / "FastestDet.onnx"
    if not path.is_file():
        pytest.skip(f"missing: {path}")
    # 70 convolutions deep: float32 sums in another order
    network = same_answers(path, shape=(3, 352, 352), tolerance=1e-4)
    placement = placement_on(batch_norm_folded(traced(network)))
    assert (len(placement.weights), len(placement.kept_float)) == (67, 3)


def test_ultraface_with_its_2_outputs_answers_as_onnx_runtime(
    data_folder: Path, same_answers: Callable[..., Any]
) -> None:
    path = data_folder / "ultraface" / "version-RFB-320.onnx"
    if not path.is_file():
        pytest.skip(f"missing: {path}")
    both = same_answers(path, shape=(3, 240, 320), tolerance=1e-4)
    with torch.no_grad():
        assert both(torch.zeros(2, 3, 240, 320)).shape == (2, 4420 * 2 + 4420 * 4)
    graph = batch_norm_folded(traced(both))
    assert not [layer for layer in graph.modules() if isinstance(layer, nn.BatchNorm2d)]  # 35 of them were folded
    placement = placement_on(graph)
    assert (len(placement.weights), len(placement.kept_float)) == (44, 8)
    scores = module_from_onnx(path, outputs=("scores",))
    assert sum(isinstance(layer, nn.Conv2d) for layer in scores.modules()) < 52  # what only boxes need is left out


def test_gtcrn_is_refused_for_its_4_inputs(data_folder: Path) -> None:
    path = data_folder / "gtcrn" / "gtcrn_simple.onnx"
    if not path.is_file():
        pytest.skip(f"missing: {path}")
    with pytest.raises(NetworkRefused, match=r"has 4 inputs \(mix, conv_cache, tra_cache, inter_cache\)"):
        module_from_onnx(path, outputs=("enh",))


def test_a_half_precision_file_of_batch_4_answers_in_single_precision_for_any_batch(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float16)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "s"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT16),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "half", [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [4, 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [4, 64])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([4, 64]), "s")],
    )  # fmt: skip
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    network = module_from_onnx(path)
    inputs = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = network(inputs)
        wanted = nn.functional.conv2d(inputs, torch.from_numpy(weight.astype(np.float32))).flatten(1)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)  # the same call on the same numbers
