"""PTQ, QAT and QAD side by side: one start, the right labels, and a report that says no more than was seen."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pipeline.data.augment import Augment
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.without_teacher import (
    FOLDER,
    SideBySide,
    compared_without_teacher,
    forget_comparison,
    labels_objective,
)
from pipeline.report_blocks import Section, Table
from pipeline.report_teacher import teacher_bought
from pipeline.stage import Run
from pipeline.training.batches import Batch, Loader
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW
from targets.target import Scheme

MakeRun = Callable[..., Run]
SHORT = Training(epochs=2, batch=16, optimizer=AdamW(lr=1e-3))
BY_HAND = SideBySide(
    validation={"ptq": 0.8, "qat": 0.85, "qad": 0.9},
    test={"ptq": [0.0, 0.0, 1.0, 1.0], "qat": [1.0, 0.0, 1.0, 0.0], "qad": [1.0, 0.0, 1.0, 1.0]},
)


def student() -> fx.GraphModule:
    scheme = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph, placement = watched(ResNetCifar(8, width=4, classes=4).eval())
    return quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=scheme).eval()


def scalar(logits: Tensor) -> nn.Module:
    """A network that gives the same logits to every input."""

    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return logits.expand(len(x), -1)

    return Same()


def test_the_loss_of_a_batch_of_8_without_mixing_is_cross_entropy_with_its_labels(
    run_in: MakeRun, tmp_path: Path
) -> None:
    run = run_in(tmp_path)
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    batch = Batch(torch.zeros(8, 1), torch.arange(8) % 4, torch.arange(8), 0)
    loss = labels_objective(SHORT, run=run)(scalar(logits), batch)
    assert float(loss) == pytest.approx(float(F.cross_entropy(logits.expand(8, -1), batch.labels)), rel=1e-6)


def test_a_view_that_mixes_2_pictures_has_the_labels_of_both_by_their_shares(run_in: MakeRun, tmp_path: Path) -> None:
    run = run_in(tmp_path)
    augment = Augment(shift=0, flip=False, views=2, mix=0.5)
    settings = Training(epochs=1, batch=16, augment=augment)
    batch = next(Loader(run.dataset, augment, 16, run.seed).epoch(1))
    partners, shares = augment.partners(view=batch.view, seed=run.seed, count=64)
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    minus_log = -F.log_softmax(logits, dim=0).double().numpy()
    labels = run.dataset.train.labels
    slow = [
        (1 - shares[place]) * minus_log[labels[place]] + shares[place] * minus_log[labels[partners[place]]]
        for place in batch.places.tolist()
    ]
    assert len({int(labels[place]) for place in partners[batch.places.numpy()]}) > 1
    loss = labels_objective(settings, run=run)(scalar(logits), batch)
    assert float(loss) == pytest.approx(float(np.mean(slow)), rel=1e-5)  # float32


def test_training_from_labels_leaves_the_start_alone_and_gives_the_same_numbers_twice(
    run_in: MakeRun, tmp_path: Path
) -> None:
    start, run = student(), run_in(tmp_path / "stage")
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    trained = copy.deepcopy(start)
    one = compared_without_teacher(start, trained, settings=SHORT, run=run)
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.state_dict().items())
    assert (run.folder / FOLDER / "training.safetensors").is_file()
    forget_comparison(run)
    assert list(run.folder.iterdir()) == []
    other = compared_without_teacher(start, trained, settings=SHORT, run=run_in(tmp_path / "other"))
    assert one == other
    assert {len(scores) for scores in one.test.values()} == {16}
    assert one.kept_start == ("qad",)  # what was handed in as trained is the start
    # Trained on patterns that can be learned, it answers more of them than a network of random weights.
    assert one.validation["qat"] > one.validation["ptq"]


def test_learned_steps_are_learned_there_too_and_2_epochs_end_with_a_plain_network(
    run_in: MakeRun, tmp_path: Path
) -> None:
    start, run = student(), run_in(tmp_path)
    names = list(start.state_dict())
    found = compared_without_teacher(start, copy.deepcopy(start), settings=SHORT, run=run, learned_steps=True)
    assert list(start.state_dict()) == names
    assert set(found.test) == {"ptq", "qat", "qad"}


def test_on_4_inputs_training_gains_0_and_the_teacher_25_points() -> None:
    said = BY_HAND.as_json()
    assert said["test"] == {"ptq": 0.5, "qat": 0.5, "qad": 0.75}
    assert said["test_inputs"] == 4
    assert said["gain_points"]["training"]["value"] == 0.0
    teacher = said["gain_points"]["teacher"]
    assert teacher["value"] == 25.0
    assert teacher["low"] < 25.0 < teacher["high"]


def section_of(facts: dict[str, Any]) -> Section | None:
    return teacher_bought({"stages": [{"name": "distill", "facts": {}}, {"name": "quantize", "facts": facts}]})


def test_the_report_has_3_rows_and_calls_a_gain_seen_on_4_inputs_not_settled() -> None:
    section = section_of({"without_teacher": BY_HAND.as_json()})
    assert section is not None
    assert isinstance(section.parts[0], str) and "not settled" in section.parts[0]
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    assert len(table.rows) == 3
    assert "+25.00 over the labels" in table.rows[2]
    assert "80.00\u202f%" in table.rows[0]


@pytest.mark.parametrize(("low", "high", "word"), [(1.0, 3.0, "brought 2.00"), (-3.0, -1.0, "cost 2.00")])
def test_an_interval_beside_0_is_a_gain_or_a_cost(low: float, high: float, word: str) -> None:
    facts = BY_HAND.as_json()
    facts["gain_points"]["teacher"] = {"value": (low + high) / 2, "low": low, "high": high}
    section = section_of({"without_teacher": facts})
    assert section is not None
    assert word in str(section.parts[0])


def test_of_2_trainings_the_report_names_the_1_that_left_the_calibrated_network_as_it_was() -> None:
    section = section_of({"without_teacher": replace(BY_HAND, kept_start=("qat",)).as_json()})
    assert section is not None
    said = " ".join(part for part in section.parts if isinstance(part, str))
    assert said.count("the calibrated network was kept") == 1
    assert "(QAT): no epoch" in said


def test_where_both_of_2_trainings_were_dropped_nothing_is_said_about_the_teacher() -> None:
    section = section_of({"without_teacher": replace(BY_HAND, kept_start=("qat", "qad")).as_json()})
    assert section is not None
    said = " ".join(part for part in section.parts if isinstance(part, str))
    assert said.count("the calibrated network was kept") == 2
    assert "settled" not in said


def test_a_report_of_0_comparisons_has_no_such_section() -> None:
    assert section_of({}) is None
