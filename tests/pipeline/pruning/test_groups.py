"""Which channels go together, and that a pruned network is its file and its shapes."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import NetworkRefused
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.pruning.groups import Dependencies, Group
from pipeline.pruning.magnitude import Magnitude
from pipeline.pruning.operations import macs
from pipeline.pruning.shapes import pruned_architecture, shapes_of
from pipeline.stages.prune import Prune
from pipeline.training.loop import Training

EXAMPLE = torch.zeros(1, 3, 16, 16)
option_a = partial(ResNetCifar, 14, width=16, classes=4, shortcut="A")
option_b = partial(ResNetCifar, 14, width=16, classes=4, shortcut="B")


class Depthwise(nn.Module):
    """An inverted residual with depthwise convolutions, as in MobileNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(16, 64, 1), nn.BatchNorm2d(64), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(64, 16, 1), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depth(self.expand(x)))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class HoldsOn(nn.Module):
    """A forward pass in which the 32 channels of one layer are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.held = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.held(self.free(x).relu()).relu()  # (N, 32, 12, 12)
        return self.head(x.reshape(len(x), 32, 144).mean(2))  # type: ignore[no-any-return]


class Joined(nn.Module):
    """A concat, a flatten to 16 pixels a channel, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(3, 24, 3, 4, 1)
        self.hidden, self.norm, self.head = nn.Linear(640, 32), nn.BatchNorm1d(32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x).relu(), self.b(x).relu()], 1)  # (N, 40, 4, 4)
        return self.head(self.norm(self.hidden(x.flatten(1))).relu())  # type: ignore[no-any-return]


def groups_of(network: nn.Module) -> dict[str, Group]:
    return {group.root: group for group in Dependencies(network.eval(), EXAMPLE).groups()}


def cut_to(network: nn.Module, **settings: float) -> dict[str, list[int]]:
    keep = settings.get("keep_macs", 0.5)
    return Prune(Training(epochs=1), **settings)._cut(network.eval(), EXAMPLE, keep=keep)  # type: ignore[arg-type]


def counted(network: nn.Module) -> int:
    """The slow recount: each output value of each layer is one sum over the weights of its channel."""
    found: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        if isinstance(layer, nn.Linear):
            found.append(layer.in_features * layer.out_features)
            return
        rows, columns = output.shape[2:]
        kernel = layer.kernel_size[0] * layer.kernel_size[1]
        found.append(rows * columns * layer.out_channels * (inputs[0].shape[1] // layer.groups) * kernel)

    handles = [
        layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        network.eval()(EXAMPLE)
    for handle in handles:
        handle.remove()
    return sum(found)


def test_with_shortcut_a_only_the_6_inner_convolutions_can_be_cut() -> None:
    found = groups_of(option_a())
    assert sorted(found) == [f"layer{group}.{block}.conv1" for group in (1, 2, 3) for block in (0, 1)]
    assert all(group.members == (group.root,) for group in found.values())


def test_with_shortcut_b_each_of_3_residual_streams_is_cut_as_a_whole() -> None:
    found = groups_of(option_b())
    streams = {members for group in found.values() if len(members := group.members) > 1}
    assert streams == {
        ("conv1", "layer1.0.conv2", "layer1.1.conv2"),
        ("layer2.0.conv2", "layer2.0.shortcut.0", "layer2.1.conv2"),
        ("layer3.0.conv2", "layer3.0.shortcut.0", "layer3.1.conv2"),
    }
    assert len(found) == 9  # three streams and six inner convolutions


def test_the_answers_of_4_classes_are_in_no_group() -> None:
    assert not any("linear" in group.members or "head" in group.members for group in groups_of(option_b()).values())
    assert "head" not in groups_of(Joined())


def test_a_width_of_32_in_the_forward_pass_is_left_alone_and_the_other_is_not() -> None:
    network = HoldsOn()
    assert list(groups_of(network)) == ["free"]
    assert list(cut_to(network, keep_macs=0.6)) == ["free"]
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 4)


def test_a_network_of_1_layer_has_nothing_to_cut_and_is_refused() -> None:
    with pytest.raises(NetworkRefused, match="Leave the prune stage out"):
        cut_to(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)))


@pytest.mark.parametrize("make", [option_a, option_b, Depthwise, HoldsOn, Joined])
def test_5_networks_are_counted_like_the_slow_recount(make: Callable[[], nn.Module]) -> None:
    assert macs(make(), EXAMPLE) == counted(make())


@pytest.mark.parametrize("multiple", [4, 8])
@pytest.mark.parametrize("make", [option_a, option_b, Depthwise, Joined])
def test_4_networks_are_cut_to_60_percent_in_widths_of_4_and_8_and_built_again_to_the_last_bit(
    make: Callable[[], nn.Module], multiple: int
) -> None:
    torch.manual_seed(0)
    network = make().train()
    network(torch.randn(8, 3, 16, 16))  # statistics of the batch norms
    full = counted(network)
    widths = cut_to(network, keep_macs=0.6, multiple=multiple)
    assert all(after % multiple == 0 and 0.25 * before <= after <= before for before, after in widths.values())
    # At most the share; and not below a third, which rounding to multiples of these small widths may cost.
    assert 0.33 * full < counted(network) <= 0.6 * full
    again = pruned_architecture(make, dropped=(), shapes=shapes_of(network))()
    again.load_state_dict(network.state_dict(), strict=True)
    inputs = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again.eval()(inputs), network(inputs))
    assert counted(again) == counted(network)


def test_no_gradient_and_no_requires_grad_is_lost_in_the_cut() -> None:
    network = option_b()
    cut_to(network)
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


def test_a_channel_of_zeros_goes_first_and_the_answers_stay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()
    dead = [1, 2, 5, 7]
    state = network.state_dict()  # shares its memory with the network
    state["0.weight"][dead] = 0
    state["0.bias"][dead] = 0
    state["4.weight"][:, dead] = 0
    inputs = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        expected = network(inputs)
        assert cut_to(network, multiple=1, keep_macs=0.5) == {"0": [8, 4]}
        # Sums of eight products, four of them zero, against sums of four: float32.
        torch.testing.assert_close(network(inputs), expected, rtol=1e-5, atol=1e-6)


def test_scores_have_mean_1_so_that_layers_can_be_ranked_together() -> None:
    torch.manual_seed(0)
    dependencies = Dependencies(option_b().eval(), EXAMPLE)
    for group in dependencies.groups():
        score = Magnitude()(dependencies.group(group.root, range(group.channels)))
        assert score.shape == (group.channels,)
        assert float(score.mean()) == pytest.approx(1.0, abs=1e-4)  # float32
