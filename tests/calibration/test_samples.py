"""Samples are refused by their place, and handed out in order."""

import numpy as np
import pytest
import torch

from calibration.errors import CalibrationError, SampleRefused
from calibration.samples import Samples, samples_from_list


def images(count: int) -> np.ndarray:
    return np.arange(count * 12, dtype=np.float32).reshape(count, 3, 2, 2)


def test_nan_in_image_17_of_512_is_refused_with_its_index_40213() -> None:
    inputs = images(512)
    inputs[16, 1, 0, 1] = np.nan
    indices = list(range(50_000, 50_512))
    indices[16] = 40213
    with pytest.raises(SampleRefused) as refused:
        Samples(inputs, origin="digits, split 'train'", indices=indices)
    assert str(refused.value) == (
        "calibration image 17 of 512 contains NaN (digits, split 'train', index 40213). Ranges from this sample would "
        "be NaN for every layer. Remove index 40213 from the sample list, or repair the file."
    )


@pytest.mark.parametrize("position", [0, 63, 64, 129])  # on both sides of the 64 rows that are checked together
def test_infinity_is_found_at_position(position: int) -> None:
    inputs = torch.zeros(130, 5)
    inputs[position, 4] = -torch.inf
    with pytest.raises(
        SampleRefused, match=rf"sample {position + 1} of 130 contains infinity \(here, index {position}\)"
    ):
        Samples(inputs, origin="here")


def test_an_array_of_0_samples_is_refused() -> None:
    with pytest.raises(SampleRefused, match="there are no calibration samples"):
        Samples(np.zeros((0, 3, 2, 2), np.float32), origin="here")


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.float16, np.complex64])
def test_samples_of_4_other_types_are_refused_by_name(dtype: type) -> None:
    with pytest.raises(SampleRefused, match=rf"samples are {np.dtype(dtype).name} \(here\)"):
        Samples(np.zeros((2, 3), dtype), origin="here")


def test_3_indices_for_2_samples_are_refused() -> None:
    with pytest.raises(SampleRefused, match="2 calibration samples come with 3 indices"):
        Samples(np.zeros((2, 3), np.float32), origin="here", indices=[1, 2, 3])


def test_the_second_of_3_inputs_is_refused_for_its_shape() -> None:
    with pytest.raises(
        SampleRefused, match=r"sample 2 of 3 has shape \(3, 4\), the first has \(3, 3\) \(here, index 7\)"
    ):
        samples_from_list([torch.zeros(3, 3), torch.zeros(3, 4), torch.zeros(3, 3)], origin="here", indices=[5, 7, 9])


def test_an_empty_list_is_refused_as_a_calibration_error() -> None:
    with pytest.raises(CalibrationError, match="there are no calibration samples"):
        samples_from_list([], origin="here")


def test_5_samples_in_batches_of_2_come_in_order_as_2_2_1() -> None:
    inputs = images(5)
    batches = list(Samples(inputs, origin="here").batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), torch.from_numpy(inputs))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_batch_is_a_copy_so_that_adding_1_to_it_leaves_the_samples(kind: str) -> None:
    inputs = images(4) if kind == "numpy" else torch.from_numpy(images(4))
    samples = Samples(inputs, origin="here")
    next(samples.batches(4)).add_(1.0)
    assert torch.equal(torch.as_tensor(samples.inputs), torch.from_numpy(images(4)))


def test_2_rows_of_int64_tokens_are_accepted() -> None:
    samples = samples_from_list([torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])], origin="here")
    assert next(samples.batches(2)).dtype == torch.int64
    assert len(samples) == 2


def test_a_batch_of_0_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(Samples(images(1), origin="here").batches(0))
