"""A network is observed layer by layer and given back as it was."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from calibration.errors import LayerNotFinite, LayerRefused
from calibration.observe import Observer, observe, observe_each
from calibration.observers.entropy import Entropy
from calibration.observers.minmax import MinMax
from calibration.observers.mse import MeanSquaredError
from calibration.observers.percentile import Percentile
from calibration.ranges import Range
from calibration.samples import Samples

torch.set_num_threads(1)


class Twice(nn.Module):
    """Calls one ReLU twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.alias = self.relu
        self.unused = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.relu(self.relu(x) - 10.0) + self.alias(-x)
        return answer


class Reciprocal(nn.Module):
    """1 / x: infinite for 0."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.0 / x


class Pair(nn.Module):
    """Answers two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5))


def digits(count: int) -> Samples:
    images = load_digits().images[:count, None].astype(np.float32) / 16.0
    return Samples(images, origin="digits")


def slowly(network: nn.Module, samples: Samples) -> Tensor:
    """All outputs at once."""
    with torch.no_grad():
        answer: Tensor = network.eval()(torch.as_tensor(samples.inputs))
    return answer


def test_ranges_of_100_digits_equal_those_of_all_activations_at_once() -> None:
    samples = digits(100)
    ranges = observe(small_network(), samples, points={"1": MinMax(), "2": MinMax(), "": MinMax()}, batch=32)
    before_relu = slowly(small_network()[:2], samples)
    after_relu = before_relu.relu()
    # Single images and whole batches may be convolved in another order of additions: 1e-6 is 8 steps of float32.
    for name, values in (("1", before_relu), ("2", after_relu), ("", after_relu)):
        assert ranges[name].low == pytest.approx(float(values.min()), rel=1e-6, abs=1e-6)
        assert ranges[name].high == pytest.approx(float(values.max()), rel=1e-6, abs=1e-6)
    assert [ranges.non_negative(name) for name in ("1", "2", "")] == [False, True, True]


def test_the_99th_percentile_of_100_digits_agrees_with_numpy_to_one_bin() -> None:
    samples = digits(100)
    ranges = observe(small_network(), samples, points={"2": Percentile(99.0)}, batch=7)
    values = slowly(small_network(), samples)
    exact = np.quantile(values.numpy(), 0.99, method="inverted_cdf")
    # A bin is at most a 4096th of the maximum; 1e-6 for the order of additions in batches of 7.
    assert exact - 1e-6 <= ranges["2"].high <= exact + float(values.max()) / 4096 + 1e-6


def test_the_same_40_samples_give_the_same_bits_twice() -> None:
    points: dict[str, Observer] = {"1": MeanSquaredError(), "2": Percentile()}
    first, second = (observe(small_network(), digits(40), points=points, batch=16).to_json() for _ in range(2))
    assert first == second


def test_a_module_called_3_times_has_one_range_over_all_calls_under_both_names() -> None:
    samples = Samples(torch.tensor([[-3.0], [4.0], [12.0]]), origin="here")
    ranges = observe(Twice(), samples, points={"relu": MinMax(), "alias": MinMax()}, batch=2)
    # relu(x) in 0..12, relu(relu(x) − 10) in 0..2, relu(−x) in 0..3
    assert ranges["relu"] == ranges["alias"] == Range(0.0, 12.0)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_hooks_statistics_and_random_state_are_as_before(fails: bool) -> None:
    network = small_network()
    network.train()
    network[1].eval()  # a frozen batch norm inside a network in training
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    samples = digits(3)
    if fails:
        nn.init.constant_(network.get_parameter("0.weight"), torch.nan)
        weights["0.weight"] = network.get_parameter("0.weight").detach().clone()
        with pytest.raises(LayerNotFinite):
            observe(network, samples, points={"2": MinMax()})
    else:
        observe(network, samples, points={"2": MinMax()})
    assert [module.training for module in network] == [True, False, True, True]
    assert network.training
    assert all(not module._forward_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in network.state_dict().items():
        assert torch.equal(value.nan_to_num(7.0), weights[name].nan_to_num(7.0)), name


def test_the_third_of_4_samples_is_named_when_layer_0_gives_infinity_for_it() -> None:
    samples = Samples(torch.tensor([[1.0], [2.0], [0.0], [3.0]]), origin="digits, split 'train'", indices=[9, 8, 7, 6])
    with pytest.raises(LayerNotFinite) as refused:
        observe(nn.Sequential(Reciprocal()), samples, points={"0": Percentile()}, batch=2)
    assert str(refused.value) == (
        "layer '0' gives infinity for sample 3 of 4 (digits, split 'train', index 7). No range holds that. Check the "
        "weights of this layer and of those before it, or leave out index 7."
    )


def test_an_output_without_rows_names_the_2_samples_that_ran_together() -> None:
    network = nn.Sequential(nn.Flatten(0), Reciprocal(), nn.Unflatten(0, (1, -1)))
    samples = Samples(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), origin="here")
    with pytest.raises(LayerNotFinite, match=r"layer '2' gives infinity for samples 1 to 2 of 2 \(here\)"):
        observe(network, samples, points={"2": MinMax()})


def test_2_unknown_names_are_refused_with_the_names_that_exist() -> None:
    with pytest.raises(LayerRefused, match=r"no layer named conv9, x\. Its layers begin with: 0, 1, 2, 3"):
        observe(small_network(), digits(1), points={"conv9": MinMax(), "x": MinMax()})


def test_a_layer_that_none_of_3_samples_reaches_is_refused_by_name() -> None:
    samples = Samples(torch.zeros(3, 1), origin="here")
    with pytest.raises(LayerRefused, match=r"layer 'unused' was never reached while the network answered 3 samples"):
        observe(Twice(), samples, points={"unused": MinMax()})


def test_a_layer_that_answers_2_tensors_is_refused_by_name() -> None:
    with pytest.raises(LayerRefused, match=r"layer '0' \(Pair\) answers a tuple"):
        observe(nn.Sequential(Pair()), Samples(torch.zeros(3, 1), origin="here"), points={"0": MinMax()})


def test_dead_and_constant_layers_are_noted_among_3() -> None:
    network = nn.Sequential(nn.Identity(), nn.Threshold(100.0, 5.0), nn.Threshold(100.0, 0.0))
    samples = Samples(torch.tensor([[1.0], [2.0]]), origin="here")
    ranges = observe(network, samples, points={"0": MinMax(), "1": Percentile(), "2": MinMax()})
    assert ranges.notes == {"1": ("constant (always 5.0)",), "2": ("dead (always 0)",)}


def test_a_network_without_weights_and_points_gives_0_ranges() -> None:
    assert len(observe(nn.Identity(), Samples(torch.zeros(3, 1), origin="here"), points={})) == 0


def test_4_observers_in_1_pass_choose_what_each_chooses_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    passes = []
    network.register_forward_hook(lambda *_: passes.append(1))
    samples = digits(40)
    ways: dict[str, Observer] = {
        "mse": MeanSquaredError(), "minmax": MinMax(), "percentile": Percentile(), "entropy": Entropy(),
    }  # fmt: skip
    together = observe_each(network, samples, points=["1", "2"], observers=ways, batch=16)
    assert len(passes) == 3  # 40 samples, 16 at a time
    for name, way in ways.items():
        assert together[name] == observe(network, samples, points={"1": way, "2": way}, batch=16)
