"""Views of a picture: always the same, one at a time or in a batch."""

from itertools import product

import pytest
import torch

from pipeline.data.augment import Augment, drawn

INPUTS = torch.randint(1, 256, (20, 3, 8, 10), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
INDICES = torch.arange(20)


def test_a_view_of_20_pictures_is_what_a_loop_over_pixels_gives() -> None:
    augment = Augment(shift=2, flip=True, views=3)
    down, right, mirror = drawn(2, True, 7, 1, 20)
    expected = torch.zeros_like(INPUTS)
    for n, y, x in product(range(20), range(8), range(10)):
        column = 9 - x if mirror[n] else x
        source_y, source_x = y + int(down[n]) - 2, column + int(right[n]) - 2
        if 0 <= source_y < 8 and 0 <= source_x < 10:
            expected[n, :, y, x] = INPUTS[n, :, source_y, source_x]
    assert torch.equal(augment(INPUTS, INDICES, view=1, seed=7, count=20), expected)


def test_picture_5_looks_the_same_alone_and_among_20_in_another_order() -> None:
    augment = Augment(shift=4, views=2)
    together = augment(INPUTS, INDICES, view=0, seed=1, count=20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    shuffled = augment(INPUTS[order], order, view=0, seed=1, count=20)
    alone = augment(INPUTS[5:6], INDICES[5:6], view=0, seed=1, count=20)
    assert torch.equal(shuffled, together[order])
    assert torch.equal(alone[0], together[5])


def test_a_split_of_1000_begins_as_one_of_20_does() -> None:
    for short, long in zip(drawn(4, True, 0, 0, 20), drawn(4, True, 0, 0, 1000), strict=True):
        assert (short == long[:20]).all()


def test_2_views_and_2_seeds_give_4_different_batches() -> None:
    augment = Augment(shift=4, views=2)
    batches = [augment(INPUTS, INDICES, view=view, seed=seed, count=20) for view, seed in product((0, 1), (0, 1))]
    assert len({batch.numpy().tobytes() for batch in batches}) == 4


def test_all_9_shifts_and_both_mirrors_occur_among_5000_pictures() -> None:
    down, right, mirror = drawn(4, True, 0, 0, 5000)
    assert set(down) == set(right) == set(range(9))
    # 5000 fair coins: 2500 ± 35; six deviations either way
    assert 2290 < mirror.sum() < 2710


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_type_stays_and_the_padding_is_0(dtype: torch.dtype) -> None:
    answer = Augment(shift=4, flip=False)(INPUTS.to(dtype), INDICES, view=0, seed=0, count=20)
    assert answer.dtype == dtype
    assert (answer == 0).any()


def test_without_shift_and_mirror_the_input_comes_back_itself() -> None:
    assert Augment(shift=0, flip=False)(INPUTS, INDICES, view=0, seed=0, count=20) is INPUTS


def test_view_8_of_8_does_not_exist() -> None:
    with pytest.raises(ValueError, match="views 0 … 7"):
        Augment(views=8)(INPUTS, INDICES, view=8, seed=0, count=20)
