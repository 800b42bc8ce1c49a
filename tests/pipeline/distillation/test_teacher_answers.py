"""The teacher is asked once per view, and what is kept is what it would say."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from pipeline.candidate import Candidate
from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset
from pipeline.distillation import teacher_answers
from pipeline.distillation.attention import AttentionTransfer
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.objective import distillation_objective
from pipeline.distillation.teacher_answers import KeptAnswers, LiveAnswers, teacher_for
from pipeline.errors import RecipeRefused
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.stage import Run
from pipeline.training.batches import Loader
from pipeline.training.loop import Training

SHIFTED = Augment(shift=2, flip=True, views=2)
teacher_network = partial(ResNetCifar, 8, width=4, classes=4)


@pytest.fixture
def run(
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> Run:
    return run_in(tmp_path / "stage", teacher=candidate_in(tmp_path / "teacher", teacher_network, tiny_data()))


def test_kept_answers_of_2_views_are_those_of_the_teacher_asked_live(run: Run) -> None:
    loader = Loader(run.dataset, SHIFTED, 16, run.seed)
    kept, live = KeptAnswers(run, loader), LiveAnswers(run, loader, ())
    for epoch in (0, 1):
        for batch in loader.epoch(epoch):
            # 64 inputs at once and 16 at once are multiplied in another order: the last bits of float32.
            torch.testing.assert_close(kept(batch).logits, live(batch).logits, rtol=1e-4, atol=1e-5)
    assert len(list(run.shared.glob("answers-*.safetensors"))) == 2


def test_the_teacher_of_a_second_stage_is_not_asked_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(run.dataset, SHIFTED, 16, run.seed)
    batch = next(loader.epoch(1))
    expected = KeptAnswers(run, loader)(batch).logits

    def asked(_candidate: Candidate) -> nn.Module:
        raise AssertionError("the teacher was asked again")

    monkeypatch.setattr(Candidate, "module", asked)
    assert torch.equal(KeptAnswers(run, loader)(batch).logits, expected)


def test_another_teacher_seed_augmentation_or_data_are_4_other_files(
    run: Run, tiny_data: Callable[..., Dataset]
) -> None:
    runs = [
        run,
        replace(run, teacher=replace(run.the_teacher(), digest="another")),
        replace(run, seed=1),
        replace(run, dataset=tiny_data(counts=(60, 32, 16))),
    ]
    for each in runs:
        loader = Loader(each.dataset, SHIFTED, 16, each.seed)
        KeptAnswers(each, loader)(next(loader.epoch(0)))
    loader = Loader(run.dataset, replace(SHIFTED, shift=1), 16, run.seed)
    KeptAnswers(run, loader)(next(loader.epoch(0)))
    assert len(list(run.shared.iterdir())) == 5


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100])
def test_a_damaged_file_of_answers_is_made_anew(run: Run, damage: bytes) -> None:
    loader = Loader(run.dataset, SHIFTED, 16, run.seed)
    batch = next(loader.epoch(0))
    expected = KeptAnswers(run, loader)(batch).logits
    (path,) = run.shared.iterdir()
    path.write_bytes(damage)
    assert torch.equal(KeptAnswers(run, loader)(batch).logits, expected)
    assert safetensors.torch.load_file(path)["logits"].shape == (64, 4)


def test_taps_or_more_than_512_mb_of_logits_ask_the_teacher_live(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(run.dataset, SHIFTED, 16, run.seed)
    assert isinstance(teacher_for(run, loader, taps=()), KeptAnswers)
    assert isinstance(teacher_for(run, loader, taps=("layer1",)), LiveAnswers)
    monkeypatch.setattr(teacher_answers, "LARGEST_KEPT_BYTES", 64 * 4 * 4 * 2 - 1)  # inputs · classes · bytes · views
    assert isinstance(teacher_for(run, loader, taps=()), LiveAnswers)


def test_an_objective_of_2_terms_is_their_sum_and_its_hooks_are_gone_afterwards(run: Run) -> None:
    student = run.the_teacher().module()
    terms: tuple[Any, ...] = (SoftTargets(), AttentionTransfer(("layer1", "layer2"), ("layer1", "layer2"), weight=3.0))
    settings = Training(epochs=1, batch=16, augment=SHIFTED)
    batch = next(Loader(run.dataset, SHIFTED, 16, run.seed).epoch(0))
    losses = []
    for chosen in (terms, terms[:1], terms[1:]):
        with distillation_objective(student, terms=chosen, settings=settings, run=run) as objective:
            losses.append(float(objective(student, batch).detach()))
    # Student and teacher are one network, so attention costs its floor of 1e-6 a pair: 3 · ½ · 2 · 1e-6.
    assert losses[2] == pytest.approx(3e-6, rel=0.1)
    assert losses[0] == pytest.approx(
        losses[1] + losses[2], abs=1e-4
    )  # kept and live answers differ in their last bits
    assert not any(layer._forward_hooks for layer in student.modules())


def test_a_tap_that_1_network_does_not_have_is_refused(run: Run) -> None:
    student = run.the_teacher().module()
    terms = (AttentionTransfer(("layer9",), ("layer1",)),)
    with (
        pytest.raises(RecipeRefused, match="layer9"),
        distillation_objective(student, terms=terms, settings=Training(epochs=1), run=run),
    ):
        pass
