"""The teacher: read from a checkpoint, or trained here from the labels when the recipe says so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.candidate import Architecture, Candidate, Form, save_weights
from pipeline.data.dataset import Dataset
from pipeline.errors import DataRefused, NetworkRefused, TeacherRefused
from pipeline.models.checkpoint import load_state, state_from_file
from pipeline.stage import Run
from pipeline.store import file_digest
from pipeline.training.batches import Batch, normalised, rows
from pipeline.training.input_check import input_mismatch
from pipeline.training.loop import Training, discard_checkpoint, train, validation_score
from pipeline.training.seeds import random_state_kept, seed_for
from pipeline.training.trial import built, refuse_misfit

LOOKED_AT = 64  # inputs, to see whether they are like those that a published teacher was trained on
READ_RIGHT = 0.99  # share of equal answers; sums in another order move few


@dataclass(frozen=True)
class Network:
    """A network and where its weights are.

    factory: builds the empty network · weights: file to look for below `--data`, or a path; None for fresh weights
    """

    factory: Architecture
    weights: str | None = None


@dataclass(frozen=True)
class Teacher:
    """The FP32 network that everything later is compared with.

    training: how to train it from the labels, when there is no file of weights · label_smoothing: of that training
    (Szegedy et al. 2016, arXiv:1512.00567, section 7)
    """

    factory: Architecture
    weights: str | None = None
    training: Training | None = None
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.training is None):
            raise ValueError("a teacher has either a file of weights or a training, not both and not neither")


def teach(teacher: Teacher, *, weights: Path | None, run: Run) -> Candidate:
    """Make the teacher candidate in `run.folder`.

    Raises:
        CheckpointRefused: the file cannot be read or does not fit · TeacherRefused: it answers no better than chance.
    """
    with random_state_kept(seed_for(run.seed, "teacher")):
        module = built(teacher.factory, role="teacher")
    facts: dict[str, Any] = {"origin": "trained from the labels"}
    if weights is not None:
        if weights.suffix.lower() != ".onnx":  # that file holds the network itself
            load_state(module, state_from_file(weights), path=weights)
        facts = {"origin": weights.name, "sha256": file_digest(weights)}
        module.eval()
    refuse_misfit(module, role="teacher", run=run)
    if weights is not None:
        looked_at = normalised(rows(run.dataset.validation, slice(0, LOOKED_AT)), dataset=run.dataset)
        facts["doubt"] = input_mismatch(module, looked_at)
        if facts["doubt"] is not None:
            run.progress.say(f"teacher: {facts['doubt']}")
    if weights is None:
        assert teacher.training is not None
        trained = train(module, objective=_objective(teacher), settings=teacher.training, run=run)
        facts["validation_score"] = trained.best_score
    if weights is not None and weights.suffix.lower() == ".onnx":
        refuse_misread(module, file=weights, run=run)
    if run.dataset.classes:
        refuse_chance(module, run=run, dataset=run.dataset)
    path = run.folder / "weights.safetensors"
    if run.workers.leads:
        save_weights(module, path)
        discard_checkpoint(run.folder)
    return Candidate("teacher", Form.TORCH, run.digest, path, None, facts, teacher.factory)


def refuse_misread(module: nn.Module, *, file: Path, run: Run) -> None:
    """Refuse a network that answers otherwise than the ONNX file it was read from, whose answers are the labels."""
    score = validation_score(module, run=run)
    if score < READ_RIGHT:
        raise NetworkRefused(
            f"the network read from {file} scores {100 * score:.1f} % on the validation inputs against ONNX Runtime's "
            "answers: an operator is read wrongly. Report the file; compress its PyTorch original meanwhile."
        )


def _objective(teacher: Teacher) -> Any:
    def objective(module: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(module(batch.inputs).float(), batch.labels, label_smoothing=teacher.label_smoothing)

    return objective


def refuse_chance(module: nn.Module, *, run: Run, dataset: Dataset) -> None:
    """Refuse a teacher within three standard deviations of guessing, or no better than always naming one class."""
    score = validation_score(module, run=run)
    count = len(dataset.validation.labels)
    chance = 1.0 / dataset.classes
    noise = 3.0 * (chance * (1 - chance) / count) ** 0.5
    if chance + noise >= 1:
        needed = int(9 * chance / (1 - chance)) + 1
        raise DataRefused(
            f"{dataset.name} has {count} validation inputs, too few to tell a teacher of "
            f"{dataset.classes} classes from guessing: at least {needed} are needed. "
            "Add data, or deal out a larger share for validation."
        )
    if not score > chance + noise:
        raise TeacherRefused(
            f"the teacher answers {100 * score:.1f} % of {count} validation inputs of {dataset.name} right, and "
            f"guessing gives {100 * chance:.1f} %. "
            "Check that weights, class order and normalisation belong to this data."
        )
    shares = np.bincount(dataset.validation.labels, minlength=dataset.classes) / count  # (K,)
    if score <= shares.max():
        raise TeacherRefused(
            f"the teacher answers {100 * score:.1f} % of {count} validation inputs of {dataset.name} right, and always "
            f"answering '{dataset.labels[int(shares.argmax())]}' gives {100 * shares.max():.1f} %. "
            "Train it longer, or balance the classes."
        )
