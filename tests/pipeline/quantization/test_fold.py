"""Batch norm folded into the layer before it changes no answer."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pipeline.graph.trace import traced
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.fold import batch_norm_folded


class Twice(nn.Module):
    """One convolution with two norms, and two convolutions with one norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.n, self.m, self.shared = (nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.n(self.a(x)) + self.m(self.a(-x))
        return self.shared(self.b(x)) - self.shared(self.c(x))  # type: ignore[no-any-return]


class Branch(nn.Module):
    """A convolution whose output is read beside its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.n(x) + x  # type: ignore[no-any-return]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "residual": (partial(ResNetCifar, 8, width=4, shortcut="B"), (3, 16, 16), 0),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 2, stride=2), nn.BatchNorm2d(5)), (3, 8, 8), 0),
    "linear": (lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5)), (6,), 0),
    "series": (lambda: nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5, affine=False)), (3, 8), 0),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4)), (4, 8, 8), 0),
    "without statistics": (
        lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, track_running_stats=False)), (3, 8, 8), 1,
    ),
    "norm before": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 5, 3)), (3, 8, 8), 1),
    "twice": (Twice, (3, 8, 8), 3),
    "branch": (Branch, (3, 8, 8), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_9_networks_answer_as_before_within_1e_5(name: str) -> None:
    make, shape, left = NETWORKS[name]
    torch.manual_seed(0)
    network = make().train()
    for _ in range(5):  # statistics that are not 0 and 1
        network(3 * torch.randn(16, *shape) + 1)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) and layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias)
    network.eval()
    kept = copy.deepcopy(network.state_dict())
    folded = batch_norm_folded(traced(network))
    inputs = torch.randn(8, *shape)
    with torch.no_grad():
        expected, got = network(inputs), folded(inputs)
    assert float((expected - got).abs().max() / expected.abs().max()) < 1e-5  # float32, another order of products
    norms = {str(node.target) for node in folded.graph.nodes if node.op == "call_module"}
    assert sum(isinstance(folded.get_submodule(name), nn.modules.batchnorm._BatchNorm) for name in norms) == left
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
