"""Which inputs make which batch is a function of seed, epoch and step alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.training.batches import Loader, answers_on, normalised, rows

Data = Callable[..., Dataset]
SHIFTED = Augment(shift=2, flip=True, views=3)


@pytest.mark.parametrize("augment", [None, SHIFTED])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_2_3_and_4_processes_together_see_the_batch_of_one(
    tiny_data: Data, augment: Augment | None, count: int
) -> None:
    data = tiny_data()
    whole = list(Loader(data, augment, 16, 5).epoch(1))
    parts = [list(Loader(data, augment, 16, 5, rank, count).epoch(1)) for rank in range(count)]
    for step, batch in enumerate(whole):
        shares = [parts[rank][step] for rank in range(count)]
        places = torch.cat([share.places for share in shares])
        assert sorted(places.tolist()) == sorted(batch.places.tolist())
        order = [places.tolist().index(place) for place in batch.places.tolist()]
        assert torch.equal(torch.cat([share.inputs for share in shares])[order], batch.inputs)
        assert torch.equal(torch.cat([share.labels for share in shares])[order], batch.labels)


def test_an_epoch_resumed_at_step_2_of_4_goes_on_with_the_same_batches(tiny_data: Data) -> None:
    loader = Loader(tiny_data(), SHIFTED, 16, 5)
    whole, rest = list(loader.epoch(3)), list(loader.epoch(3, from_step=2))
    assert len(whole) == 4
    assert len(rest) == 2
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.places, other.places)


def test_an_epoch_of_64_inputs_sees_each_once_and_the_next_in_another_order(tiny_data: Data) -> None:
    loader = Loader(tiny_data(), None, 16, 5)
    first = torch.cat([batch.places for batch in loader.epoch(0)]).tolist()
    second = torch.cat([batch.places for batch in loader.epoch(1)]).tolist()
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second


def test_4_epochs_go_through_3_views_in_turn(tiny_data: Data) -> None:
    loader = Loader(tiny_data(), SHIFTED, 64, 5)
    views = [next(loader.epoch(epoch)).view for epoch in range(4)]
    assert views == [0, 1, 2, 0]
    assert Loader(tiny_data(), None, 64, 5).views == 1


def test_a_batch_larger_than_the_64_inputs_is_1_step_with_all_of_them(tiny_data: Data) -> None:
    loader = Loader(tiny_data(), None, 1000, 5)
    assert loader.steps == 1
    assert [len(batch.labels) for batch in loader.epoch(0)] == [64]


def test_another_seed_gives_another_order_of_64(tiny_data: Data) -> None:
    one, other = (next(Loader(tiny_data(), None, 64, seed).epoch(0)).places.tolist() for seed in (1, 2))
    assert one != other


def test_normalised_pixels_are_what_the_engine_will_be_given(tiny_data: Data) -> None:
    data = tiny_data()
    ours = normalised(rows(data.train, slice(0, 8)), dataset=data).numpy()
    theirs = inputs_for_network(data, data.train.inputs[:8])
    # Both are (pixel / 255 − mean) / std in float32, one scaled by 255 beforehand: a few units in the last place.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def test_8_float_vectors_pass_as_they_are(tiny_data: Data) -> None:
    data = tiny_data((20,))
    assert torch.equal(normalised(rows(data.train, slice(0, 8)), dataset=data), torch.tensor(data.train.inputs[:8]))


def test_32_answers_come_in_order_whatever_the_batch_and_leave_the_mode_alone(tiny_data: Data) -> None:
    data = tiny_data((20,))
    network = torch.nn.Sequential(torch.nn.Linear(20, 4), torch.nn.BatchNorm1d(4)).train()
    cpu = torch.device("cpu")
    one, other = (answers_on(network, data.validation, dataset=data, batch=size, device=cpu) for size in (5, 32))
    assert one.shape == (32, 4)
    # Batches of another size are multiplied in another order: the last bits of float32.
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert network.training
    assert int(network[1].num_batches_tracked) == 0  # type: ignore[arg-type]


def test_a_mixed_view_is_the_weighted_sum_of_2_pictures(tiny_data: Data) -> None:
    data = tiny_data((3, 8, 8), counts=(32, 8, 8))
    augment = Augment(shift=0, flip=False, views=2, mix=0.5)
    loader = Loader(data, augment, 8, 7)
    partners, shares = augment.partners(view=1, seed=7, count=32)
    assert sorted(partners) == list(range(32)) and shares.min() >= 0 and shares.max() <= 0.5
    places = np.array([3, 11])
    plain = [Loader(data, None, 8, 7).batch_of(each, view=0).inputs for each in (places, partners[places])]
    share = torch.from_numpy(shares[places])[:, None, None, None]
    expected = plain[0] * (1 - share) + plain[1] * share
    # 1e-5: mixing before or after normalising differs by float32 rounding only
    torch.testing.assert_close(loader.batch_of(places, view=1).inputs, expected, rtol=0, atol=1e-5)
    assert loader.batch_of(places, view=1).labels.tolist() == data.train.labels[places].tolist()
