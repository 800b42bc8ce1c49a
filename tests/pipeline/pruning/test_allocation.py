"""How many channels each group keeps, with numbers small enough to be counted."""

import pytest
import torch
from torch import Tensor

from pipeline.pruning.allocation import cut_places, widths_at, widths_for

# Two layers of eight channels; a channel of the first costs 1, of the second 3: 32 in all.
SCORES = {"a": torch.arange(1.0, 9.0), "b": torch.arange(1.0, 9.0) / 10}


def macs_of(widths: dict[str, int]) -> int:
    return widths["a"] + 3 * widths["b"]


def slow(keep: float, scores: dict[str, Tensor], *, multiple: int, least: float) -> dict[str, int]:
    """Every threshold in turn, from the lowest, until the share is reached."""
    full = macs_of({root: len(score) for root, score in scores.items()})
    widths: dict[str, int] = {}
    for threshold in sorted({float(value) for score in scores.values() for value in score}):
        widths = widths_at(threshold, scores, multiple=multiple, least=least)
        if macs_of(widths) <= keep * full:
            return widths
    return widths


def test_a_threshold_of_0_45_keeps_8_and_4() -> None:
    assert widths_at(0.45, SCORES, multiple=1, least=0.0) == {"a": 8, "b": 4}


def test_widths_are_rounded_up_to_4_and_a_quarter_stays_in_any_case() -> None:
    assert widths_at(0.65, SCORES, multiple=4, least=0.0) == {"a": 8, "b": 4}  # 2 are above it
    assert widths_at(100.0, SCORES, multiple=1, least=0.25) == {"a": 2, "b": 2}
    assert widths_at(100.0, SCORES, multiple=1, least=0.0) == {"a": 1, "b": 1}


def test_a_group_of_6_is_never_rounded_above_6() -> None:
    assert widths_at(0.0, {"a": torch.ones(6)}, multiple=8, least=0.0) == {"a": 6}


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.5, 0.62, 0.9, 1.0])
@pytest.mark.parametrize("multiple", [1, 4])
def test_bisection_finds_what_trying_every_threshold_finds_for_12_wishes(keep: float, multiple: int) -> None:
    torch.manual_seed(0)
    for scores in (SCORES, {"a": torch.rand(24), "b": torch.rand(16)}):
        found = widths_for(keep, scores, multiple=multiple, least=0.1, macs_of=macs_of)
        assert found == slow(keep, scores, multiple=multiple, least=0.1)


def test_half_of_32_is_reached_with_8_and_2() -> None:
    assert widths_for(0.5, SCORES, multiple=1, least=0.0, macs_of=macs_of) == {"a": 8, "b": 2}  # 8 + 3 · 2 = 14


def test_a_share_out_of_reach_gives_the_least_widths() -> None:
    assert widths_for(0.01, SCORES, multiple=1, least=0.5, macs_of=macs_of) == {"a": 4, "b": 4}


def test_equal_scores_give_whole_layers() -> None:
    scores = {"a": torch.ones(8), "b": torch.ones(8)}
    assert widths_for(0.5, scores, multiple=1, least=0.0, macs_of=macs_of) == {"a": 8, "b": 8}  # nothing lies below


def test_the_2_smallest_go_and_of_equals_the_last() -> None:
    assert cut_places(torch.tensor([3.0, 1.0, 2.0, 1.0]), 2) == [1, 3]
    assert cut_places(torch.tensor([1.0, 1.0, 1.0]), 2) == [2]
    assert cut_places(torch.tensor([1.0, 2.0]), 2) == []
