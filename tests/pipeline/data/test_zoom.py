"""A view that shows a part of the picture, enlarged."""

import numpy as np
import pytest
import torch

from pipeline.data.augment import Augment, enlarged, parts_drawn


def slope(side: int) -> torch.Tensor:
    """A picture whose value is the place of its column, (1, 1, side, side): bilinear interpolation is exact on it."""
    return torch.arange(side, dtype=torch.float32).expand(1, 1, side, side).clone()


def numbers(*values: float) -> list[np.ndarray]:
    return [np.array([value], dtype=np.float32) for value in values]


def test_half_of_8_columns_from_the_right_end_are_those_from_4_on() -> None:
    shown = enlarged(slope(8), *numbers(0.5, 0.0, 1.0))
    # Output column i lies at 4 + (i + 0.5) / 2 − 0.5 in the picture; beyond the last column its value is repeated.
    expected = torch.clamp(torch.arange(8) * 0.5 + 3.75, max=7.0)
    torch.testing.assert_close(shown[0, 0, 3], expected, rtol=0, atol=1e-5)


def test_a_share_of_1_shows_the_picture_as_it_is() -> None:
    picture = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(enlarged(picture, *numbers(1.0, -1.0, 1.0)), picture, rtol=0, atol=1e-5)


def test_a_view_is_the_same_whether_its_inputs_come_together_or_in_2_batches() -> None:
    pictures = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    view = {"view": 2, "seed": 3, "count": 10}
    augment = Augment(shift=1, flip=True, views=4, zoom=0.5)
    together = augment(pictures, torch.arange(10), **view)
    halves = [augment(pictures[part], torch.arange(10)[part], **view) for part in (slice(0, 4), slice(4, 10))]
    assert together.dtype == torch.float32
    assert torch.equal(together, torch.cat(halves))
    assert together.min() >= 0
    assert together.max() <= 255


def test_1000_shares_fill_the_stretch_from_a_half_to_1() -> None:
    share, down, right = parts_drawn(0.5, 0, 0, 1000)
    assert 0.5 <= share.min() < 0.51
    assert 0.99 < share.max() <= 1
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.1  # of 1 000 independent pairs: three deviations of 0.032


@pytest.mark.parametrize("zoom", [0.0, 1.5, -1.0])
def test_3_zooms_outside_0_to_1_are_refused(zoom: float) -> None:
    with pytest.raises(ValueError, match="share of a picture"):
        Augment(zoom=zoom)
