"""A mean over the pixels becomes a pooling; any other mean stays what it is."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.graph.trace import traced
from pipeline.quantization.placement import placement_on
from pipeline.quantization.pool_means import means_pooled


class Ends(nn.Module):
    """A convolution, and what a user writes to get rid of the pixels."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.end(F.relu(self.norm(self.conv(x)))))  # type: ignore[no-any-return]


POOLED: dict[str, Callable[[Tensor], Tensor]] = {
    "tuple": lambda x: x.mean((2, 3)),
    "list, from the end": lambda x: x.mean([-1, -2]),
    "keepdim": lambda x: x.mean(dim=(2, 3), keepdim=True).flatten(1),
    "function": lambda x: torch.mean(x, (2, 3)),
    "after a sum": lambda x: (x + F.relu(x)).mean((2, 3)),
}
OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "over channels": lambda x: x.flatten(2).mean(2),
    "one axis": lambda x: x.mean(3).mean(2),
    "unknown shape": lambda x: x.reshape(-1, 8, 2, 2).mean((2, 3)),
}


def operators_of(network: nn.Module) -> list[object]:
    return [node.target for node in means_pooled(traced(network)).graph.nodes]


@pytest.mark.parametrize("end", POOLED.values(), ids=POOLED)
def test_a_mean_over_2_axes_of_a_picture_is_pooled_with_the_same_answers(end: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    network = Ends(end).eval()
    graph = means_pooled(traced(network))
    assert F.adaptive_avg_pool2d in [node.target for node in graph.graph.nodes]
    assert "mean" not in [node.target for node in graph.graph.nodes]
    inputs = torch.randn(3, 3, 10, 10)
    with torch.no_grad():  # 64 numbers summed in another order
        torch.testing.assert_close(graph(inputs), network(inputs), rtol=1e-5, atol=1e-6)
    placed = placement_on(graph).activations
    assert any(name.startswith("adaptive_avg_pool2d") for name in placed)


@pytest.mark.parametrize("end", OTHERS.values(), ids=OTHERS)
def test_3_other_means_stay(end: Callable[[Tensor], Tensor]) -> None:
    network = Ends(end).eval()
    assert F.adaptive_avg_pool2d not in operators_of(network)
