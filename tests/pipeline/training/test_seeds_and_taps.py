"""Seeds that belong to a place, and activations read without touching the network."""

import pytest
import torch
from torch import nn

from pipeline.errors import RecipeRefused
from pipeline.training.seeds import random_state_kept, seed_for
from pipeline.training.taps import tapped


def test_a_seed_has_63_bits_and_is_the_same_in_every_process() -> None:
    # SHA-256 of "0/step/1" begins with 64 bits that are halved: worked out with sha256sum.
    assert seed_for(0, "step", 1) == int("3a9aa8c37b22331d", 16) >> 1
    assert all(0 <= seed_for(number, "a") < 2**63 for number in range(100))
    assert len({seed_for(number, place) for number in range(100) for place in ("a", "b")}) == 200


def test_random_numbers_inside_do_not_move_those_outside_by_1() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with random_state_kept(9):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with random_state_kept(9):
        assert torch.equal(torch.rand(4), inside)


def test_2_taps_see_the_outputs_of_2_layers_and_are_gone_afterwards() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    with tapped(network, ["0", "1"]) as seen:
        answer = network(inputs)
    assert torch.equal(seen["0"], network[0](inputs))
    assert torch.equal(seen["1"], network[0](inputs).relu())
    assert torch.equal(answer, network(inputs))
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_layer_that_is_not_there_is_refused_with_the_names_of_3_that_are() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(RecipeRefused, match=r"named 7.*begin with: 0, 1, 2"), tapped(network, ["0", "7"]):
        pass
    assert not any(layer._forward_hooks for layer in network.modules())
