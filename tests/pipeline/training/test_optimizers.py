"""The learning rate at named steps, and which parameters are decayed."""

import math

import pytest
from torch import nn

from pipeline.training.optimizers import AdamW, Sgd, groups, learning_rate


def test_10_warm_up_steps_rise_by_elevenths_to_just_below_the_peak() -> None:
    rates = [learning_rate(step, steps=100, peak=1.1, warmup=0.1) for step in range(10)]
    assert rates == pytest.approx([0.1 * (step + 1) for step in range(10)])  # 1.1 · (step + 1) / 11


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (10, 1.0),  # warmed up
        (40, 0.75),  # a third of the way down: ½ (1 + cos 60°)
        (55, 0.5),  # halfway: ½ (1 + cos 90°)
        (70, 0.25),  # two thirds: ½ (1 + cos 120°)
        (99, 0.5 * (1 + math.cos(math.pi * 89 / 90))),  # the last step still moves a little
        (100, 0.0),
    ],
)
def test_the_rate_at_6_steps_of_100_with_10_of_warm_up(step: int, rate: float) -> None:
    assert learning_rate(step, steps=100, peak=1.0, warmup=0.1) == pytest.approx(rate)


@pytest.mark.parametrize("steps", [1, 2, 3, 17, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_the_rate_is_positive_at_every_step_and_never_above_the_peak(steps: int, warmup: float) -> None:
    rates = [learning_rate(step, steps=steps, peak=0.3, warmup=warmup) for step in range(steps)]
    assert all(0 < rate <= 0.3 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_of_6_parameters_the_2_weights_are_decayed_and_a_frozen_one_is_left_out() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    network[2].bias.requires_grad_(False)
    decayed, free = groups(network.parameters(), weight_decay=0.1)
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert [tuple(each.shape) for each in decayed["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert len(free["params"]) == 3  # two biases and a scale; the frozen bias is in neither


@pytest.mark.parametrize("settings", [Sgd(lr=0.05), AdamW(lr=0.05)])
def test_2_optimisers_begin_at_their_peak_rate(settings: Sgd | AdamW) -> None:
    optimizer = settings(nn.Linear(3, 2).parameters())
    assert [group["lr"] for group in optimizer.param_groups] == [settings.lr] * 2
