"""What the teacher bought: the same calibrated student trained once more, from the labels alone.

Three networks from one start, side by side: calibrated only (post-training quantization, PTQ), trained from the labels
(quantization-aware training, QAT), and trained against the teacher (quantization-aware distillation, QAD). QAT has the
data, views, seed, epochs, optimiser and choice of the best epoch that QAD has; only its objective is another:

    loss = (1 − m) · CE(s, y) + m · CE(s, y'),   averaged over the batch

Views that mix two pictures mix the labels likewise (Zhang et al. 2018, "mixup", arXiv:1710.09412, section 2); without
mixing m is 0.

The test split is looked at once, when all three are finished, for the report; nothing is chosen by it.

Letters: s logits (N, K), y labels (N,), y' labels of the pictures mixed in, m their share (N,).
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.learned_steps import steps_fixed, with_learned_steps
from pipeline.stage import Run
from pipeline.training.batches import Batch, answers_on
from pipeline.training.loop import VALIDATION_BATCH, Objective, Training, discard_checkpoint, train, validation_score
from targets.intervals import paired_drop_interval

FOLDER = "without_teacher"


@dataclass(frozen=True)
class SideBySide:
    """Validation scores and, on the test split, every input's score, of the three networks; all in 0..1.

    kept_start: which of them no epoch made better on the validation split, so that they are the calibrated one itself
    """

    validation: dict[str, float]
    test: dict[str, list[float]]
    kept_start: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Means, and what training and teacher added, in points with a paired interval: plain JSON data."""
        return {
            "validation": self.validation,
            "test": {name: sum(scores) / len(scores) for name, scores in self.test.items()},
            "test_inputs": len(self.test["ptq"]),
            "kept_start": list(self.kept_start),
            "gain_points": {"training": self._gain("qat", over="ptq"), "teacher": self._gain("qad", over="qat")},
        }

    def _gain(self, name: str, *, over: str) -> dict[str, float]:
        ours, theirs = self.test[name], self.test[over]
        interval = paired_drop_interval(ours, theirs)  # a drop from ours to theirs is a gain of ours
        return {"value": 100 * (sum(ours) - sum(theirs)) / len(ours), "low": interval.low, "high": interval.high}


def compared_without_teacher(
    start: fx.GraphModule, trained: nn.Module, *, settings: Training, run: Run, learned_steps: bool = False
) -> SideBySide:
    """PTQ, QAT and QAD of one start; takes as long as training `trained` did.

    start: the calibrated student as it was before its training; left as it is
    trained: the finished QAD network · settings: of its training · learned_steps: whether its steps were learned
    """
    calibrated, labelled = copy.deepcopy(start), copy.deepcopy(start)
    before = validation_score(calibrated, run=run)
    biases_on_grid(calibrated)
    if learned_steps:
        with_learned_steps(labelled)
    inner = replace(run, folder=run.folder / FOLDER)  # for a checkpoint of its own
    train(
        labelled, objective=labels_objective(settings, run=run), settings=settings, run=inner, untrained_score=before
    )  # fmt: skip
    steps_fixed(labelled)
    biases_on_grid(labelled)
    networks = {"ptq": calibrated, "qat": labelled, "qad": trained}
    return SideBySide(
        {name: validation_score(network, run=run) for name, network in networks.items()},
        {name: scores_on_test(network, run=run) for name, network in networks.items()},
        tuple(name for name in ("qat", "qad") if same_state(networks[name], calibrated)),
    )


def forget_comparison(run: Run) -> None:
    """Remove the checkpoint of a finished comparison."""
    folder = run.folder / FOLDER
    discard_checkpoint(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def labels_objective(settings: Training, *, run: Run) -> Objective:
    """The objective above."""
    labels, augment = run.dataset.train.labels, settings.augment

    def objective(module: nn.Module, batch: Batch) -> Tensor:
        logits = module(batch.inputs).float()
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        if augment is not None and augment.mix > 0:
            partners, shares = augment.partners(view=batch.view, seed=run.seed, count=len(labels))
            places = batch.places.numpy()
            others = torch.from_numpy(labels[partners[places]]).to(logits.device)
            share = torch.from_numpy(shares[places]).to(logits.device).reshape(-1, *[1] * (losses.dim() - 1))
            losses = torch.lerp(losses, F.cross_entropy(logits, others, reduction="none"), share)
        return losses.mean()

    return objective


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks of the same names hold the same numbers, to the bit."""
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name].to(tensor.device)) for name, tensor in one.state_dict().items())


def scores_on_test(module: nn.Module, *, run: Run) -> list[float]:
    """The score of every test input, fake-quantized in torch."""
    split = run.dataset.test
    outputs = answers_on(module, split, dataset=run.dataset, batch=VALIDATION_BATCH, device=run.workers.device)
    return [float(score) for score in run.metric(outputs.float().numpy(), split.labels)]
