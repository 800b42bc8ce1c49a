"""Which blocks can go whole, which goes first, and that what is left is its file, its shapes and what it lost."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import NetworkRefused
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.pruning.blocks import blocks_to_drop, drop, named_blocks, residual_blocks
from pipeline.pruning.operations import macs
from pipeline.pruning.shapes import pruned_architecture, shapes_of

EXAMPLE = torch.zeros(1, 3, 16, 16)
fourteen = partial(ResNetCifar, 14, width=8, classes=4)
twenty = partial(ResNetCifar, 20, width=8, classes=4)


class Inverted(nn.Module):
    """The inverted residual of MobileNetV2: within it a depthwise layer keeps its shape, and adds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(8, 32, 1), nn.BatchNorm2d(32), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(32, 8, 1), nn.BatchNorm2d(8))
        self.skip = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depth(self.expand(x)))
        return self.skip(x).add(y)  # type: ignore[no-any-return]


class Gated(nn.Module):
    """Multiplies its input instead of adding to it: without it the network says something else altogether."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).sigmoid()  # type: ignore[no-any-return]


class Branching(nn.Module):
    """Looks at values: no graph of it can be trusted."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x) if x.sum() > 0 else x


def mixed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Inverted(), Gated(), Branching(), Inverted(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def test_a_resnet_of_14_layers_has_3_blocks_that_keep_their_shape() -> None:
    # The first blocks of groups 2 and 3 halve the picture and cannot go.
    assert residual_blocks(fourteen(), EXAMPLE) == ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]


def test_of_4_blocks_that_keep_their_shape_the_2_that_add_their_input_are_found() -> None:
    assert residual_blocks(mixed(), EXAMPLE) == ["1", "4"]


def test_the_block_whose_correction_is_0_goes_first_and_no_answer_changes() -> None:
    torch.manual_seed(0)
    network = twenty().eval()
    norm = network.get_submodule("layer2.1.bn2")
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    inputs = torch.randn(6, 3, 16, 16)
    assert blocks_to_drop(network, inputs, count=1) == ["layer2.1"]
    with torch.no_grad():
        expected = network(inputs)
        drop(network, ["layer2.1"])
        # The block's input is never negative, so the ReLU behind its sum changes nothing.
        assert torch.equal(network(inputs), expected)


def test_3_blocks_go_greedily_as_the_slow_search_finds_them() -> None:
    torch.manual_seed(1)
    network = twenty().eval()
    inputs = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        answers = network(inputs)
    gone: list[str] = []
    for _ in range(3):
        costs: dict[str, float] = {}
        for name in residual_blocks(network, EXAMPLE):
            if name not in gone:
                trial = twenty().eval()
                trial.load_state_dict(network.state_dict())
                drop(trial, gone)
                before = macs(trial, EXAMPLE)
                drop(trial, [name])
                with torch.no_grad():
                    moved = ((trial(inputs) - answers) ** 2).sum().item()
                costs[name] = moved / (before - macs(trial, EXAMPLE))
        gone.append(min(costs, key=lambda name: costs[name]))
    assert blocks_to_drop(network, inputs, count=3) == gone


def test_a_network_without_2_of_its_blocks_is_built_again_to_the_last_bit() -> None:
    torch.manual_seed(0)
    network = twenty().eval()
    whole = macs(network, EXAMPLE)
    dropped = blocks_to_drop(network, torch.randn(4, 3, 16, 16), count=2)
    drop(network, dropped)
    again = pruned_architecture(twenty, dropped=dropped, shapes=shapes_of(network))().eval()
    again.load_state_dict(network.state_dict(), strict=True)
    inputs = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(inputs), network(inputs))
    # Each block is two of the 3×3 convolutions with 8·8·9·16·16 multiply-accumulates, in every group.
    assert whole - macs(network, EXAMPLE) == 2 * 2 * 8 * 8 * 9 * 16 * 16


def test_asking_for_8_blocks_of_7_is_refused() -> None:
    with pytest.raises(NetworkRefused, match=r"has 7 residual blocks .* drop_blocks=8"):
        blocks_to_drop(twenty(), torch.randn(2, 3, 16, 16), count=8)


def test_a_block_can_be_named_and_a_name_of_none_of_the_7_gets_the_nearest() -> None:
    assert named_blocks(twenty(), ("layer3.1", "layer1.0"), EXAMPLE) == ["layer3.1", "layer1.0"]
    with pytest.raises(NetworkRefused, match=r"unknown residual block 'layer3.0'. Did you mean 'layer3\.[12]'"):
        named_blocks(twenty(), ("layer3.0",), EXAMPLE)
