"""The training loop: killed and continued is the same as never killed, and the best network is the one that is kept."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.data.augment import Augment
from pipeline.errors import StageFailed
from pipeline.stage import Run
from pipeline.training import loop
from pipeline.training.batches import Batch
from pipeline.training.loop import Trained, Training, discard_checkpoint, train
from pipeline.training.optimizers import AdamW, Sgd

MakeRun = Callable[..., Run]
MakeObjective = Callable[..., Callable[[nn.Module, Batch], Tensor]]
SHORT = Training(epochs=3, batch=16, optimizer=Sgd(lr=0.05), augment=Augment(shift=1, flip=True, views=2))


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
        )  # fmt: skip


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize(
    ("optimizer", "killed_at"),
    [
        *((Sgd(lr=0.05), killed_at) for killed_at in (0, 1, 4, 6, 11)),
        *((AdamW(lr=0.01), killed_at) for killed_at in (4, 6)),
        (Sgd(lr=0.05, momentum=0.0), 6),
    ],
)
def test_a_run_of_12_steps_killed_at_5_places_ends_with_the_bits_of_one_that_was_not(
    run_in: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: Sgd | AdamW,
    killed_at: int,
    labels_objective: MakeObjective,
    killed: type[BaseException],
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)  # a checkpoint after every step
    settings = replace(SHORT, optimizer=optimizer)
    whole, broken, resumed = network(), network(), network(seed=1)
    expected = train(whole, objective=labels_objective(), settings=settings, run=run_in(tmp_path / "a"))
    run = run_in(tmp_path / "b")
    with pytest.raises(killed):
        train(broken, objective=labels_objective(killed_at=killed_at), settings=settings, run=run)
    if killed_at == 0:
        resumed = network()  # nothing was kept
    objective = labels_objective(killed_at=12 - killed_at)  # would be killed if any step were done twice
    got = train(resumed, objective=objective, settings=settings, run=run)
    assert same_weights(whole, resumed)
    assert got == expected
    assert len(got.history) == 3


def test_a_checkpoint_of_other_settings_is_not_taken_up(
    run_in: MakeRun, tmp_path: Path, labels_objective: MakeObjective, killed: type[BaseException]
) -> None:
    run = run_in(tmp_path)
    with pytest.raises(killed):
        train(network(), objective=labels_objective(killed_at=9), settings=SHORT, run=run)
    assert (tmp_path / "training.safetensors").is_file()
    ended = train(network(), objective=labels_objective(), settings=replace(SHORT, epochs=2), run=run)
    assert [epoch.epoch for epoch in ended.history] == [0, 1]


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_damaged_checkpoint_means_starting_anew_with_all_12_steps(
    run_in: MakeRun, tmp_path: Path, kept: int, labels_objective: MakeObjective, killed: type[BaseException]
) -> None:
    run = run_in(tmp_path)
    with pytest.raises(killed):
        train(network(), objective=labels_objective(killed_at=9), settings=SHORT, run=run)
    checkpoint = tmp_path / "training.safetensors"
    data = checkpoint.read_bytes()
    assert data[8:9] == b"{"  # safetensors and no pickle
    checkpoint.write_bytes(data[:kept])
    anew, whole = network(), network()
    train(anew, objective=labels_objective(), settings=SHORT, run=run)
    train(whole, objective=labels_objective(), settings=SHORT, run=run_in(tmp_path / "other"))
    assert same_weights(anew, whole)


def test_of_3_epochs_the_best_is_kept_and_of_equals_the_latest(
    run_in: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels_objective: MakeObjective
) -> None:
    seen: list[dict[str, Tensor]] = []

    def scripted(scores: list[float]) -> Callable[..., float]:
        told = iter(scores)

        def score(module: nn.Module, *, run: Run) -> float:
            seen.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
            return next(told)

        return score

    for scores, kept in (([0.9, 0.5, 0.7], 0), ([0.5, 0.9, 0.7], 1), ([0.9, 0.9, 0.7], 1), ([0.0, 0.0, 0.0], 2)):
        seen.clear()
        monkeypatch.setattr(loop, "validation_score", scripted(scores))
        trained = network()
        told = train(trained, objective=labels_objective(), settings=SHORT, run=run_in(tmp_path / str(scores)))
        assert told.best_score == max(scores)
        assert all(torch.equal(tensor, seen[kept][name]) for name, tensor in trained.state_dict().items())
        assert not trained.training


def test_the_same_seed_gives_the_same_bits_twice_and_another_seed_others(
    run_in: MakeRun, tmp_path: Path, labels_objective: MakeObjective
) -> None:
    trained = [network() for _ in range(3)]
    for place, seed in enumerate((0, 0, 1)):
        run = run_in(tmp_path / str(place), seed=seed)
        train(trained[place], objective=labels_objective(), settings=SHORT, run=run)
    assert same_weights(trained[0], trained[1])
    assert not same_weights(trained[0], trained[2])


def test_the_random_state_of_3_libraries_is_left_as_it_was(
    run_in: MakeRun, tmp_path: Path, labels_objective: MakeObjective
) -> None:
    def states() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    train(network(), objective=labels_objective(), settings=SHORT, run=run_in(tmp_path))
    assert states() == before


def test_64_inputs_are_learned_in_10_epochs(run_in: MakeRun, tmp_path: Path, labels_objective: MakeObjective) -> None:
    settings = replace(SHORT, epochs=10, augment=None)
    told: Trained = train(network(), objective=labels_objective(), settings=settings, run=run_in(tmp_path))
    assert told.history[-1].loss < told.history[0].loss < 3.0  # ln 4 = 1.39 is guessing
    assert told.best_score > 0.5  # guessing gives 0.25 of 32: 0.5 is more than three deviations above it


@pytest.mark.parametrize(("scale", "epochs"), [(0.01, 1), (0.5, 2), (1.0, 3), (2.0, 6)])
def test_3_epochs_are_scaled_to_1_2_3_and_6(
    run_in: MakeRun, tmp_path: Path, scale: float, epochs: int, labels_objective: MakeObjective
) -> None:
    run = run_in(tmp_path, epochs_scale=scale)
    assert len(train(network(), objective=labels_objective(), settings=SHORT, run=run).history) == epochs


def test_a_loss_that_is_no_number_stops_the_stage_at_its_epoch(run_in: MakeRun, tmp_path: Path) -> None:
    def objective(module: nn.Module, batch: Batch) -> Tensor:
        loss: Tensor = module(batch.inputs).sum() * float("nan")
        return loss

    with pytest.raises(StageFailed, match=r"nan after step 4 \(epoch 1\).*learning rate"):
        train(network(), objective=objective, settings=SHORT, run=run_in(tmp_path))


def test_a_clip_of_1e_9_keeps_every_weight_within_12_steps_of_1e_9(
    run_in: MakeRun, tmp_path: Path, labels_objective: MakeObjective
) -> None:
    trained, before = network(), network()
    settings = replace(SHORT, clip=1e-9, optimizer=Sgd(lr=1.0, momentum=0.0, weight_decay=0.0))
    train(trained, objective=labels_objective(), settings=settings, run=run_in(tmp_path))
    for one, other in zip(trained.parameters(), before.parameters(), strict=True):
        # Twelve steps of at most rate 1 times norm 1e-9; a weight of size 1 is rounded to 6e-8 at each.
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_discarding_removes_the_1_checkpoint_and_may_be_done_twice(
    run_in: MakeRun, tmp_path: Path, labels_objective: MakeObjective
) -> None:
    train(network(), objective=labels_objective(), settings=SHORT, run=run_in(tmp_path))
    discard_checkpoint(tmp_path)
    discard_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []
