"""Take whole blocks and whole channels out of the network, then let the teacher teach it again."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.term import Term
from pipeline.errors import NetworkRefused
from pipeline.pruning.allocation import cut_places, widths_for
from pipeline.pruning.blocks import blocks_to_drop, drop, named_blocks
from pipeline.pruning.groups import Dependencies
from pipeline.pruning.magnitude import Magnitude
from pipeline.pruning.operations import macs
from pipeline.pruning.shapes import pruned_architecture, shapes_of
from pipeline.stage import Run
from pipeline.stages.trained_student import trained_student
from pipeline.training.batches import normalised, rows
from pipeline.training.loop import Training
from targets.budget import Budget


@dataclass(frozen=True)
class Prune:
    """Take out residual blocks, then channels along the dependency groups until a share of the operations is left.

    keep_macs: the share of multiply-accumulates that stays, 1 cuts no channel
    drop_blocks: how many residual blocks go whole, or the names of those that go
    multiple: widths are multiples of it · least: the share of its channels that every group keeps
    training, terms: how accuracy is recovered · samples: training inputs that show what a block is worth
    """

    training: Training
    keep_macs: float = 0.5
    multiple: int = 8
    least: float = 0.25
    drop_blocks: int | tuple[str, ...] = 0
    samples: int = 256
    importance: Magnitude = Magnitude()
    terms: tuple[Term, ...] = (SoftTargets(),)
    limits: Budget = Budget()
    name: str = "prune"

    takes = Form.TORCH
    gives = Form.TORCH
    for_target = False

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        student = candidate.module()
        example = torch.zeros(1, *run.dataset.input_shape)
        whole = macs(student, example)
        dropped = self._dropped(student, run)
        drop(student, dropped)
        widths = self._cut(student, example, keep=self.keep_macs * whole / macs(student, example))
        share = macs(student, example) / whole
        if share > self.keep_macs + 0.01:
            run.progress.say(
                f"{self.name}: {100 * share:.0f} % of the operations stay, {100 * self.keep_macs:.0f} % were asked: "
                f"what may be cut ends there (least={self.least}, multiple={self.multiple})."
            )
        shapes = shapes_of(student)
        trained, path = trained_student(student, terms=self.terms, settings=self.training, run=run)
        facts = {
            "dropped": dropped, "widths": widths, "shapes": shapes, "macs_share": share,
            "validation_score": trained.best_score,
        }  # fmt: skip
        return Candidate(
            self.name, self.gives, run.digest, path, candidate, facts, self.architecture(candidate, run, facts)
        )

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture:
        if candidate.architecture is None:
            raise TypeError("prune takes a torch candidate")
        return pruned_architecture(candidate.architecture, dropped=facts["dropped"], shapes=facts["shapes"])

    def _dropped(self, student: nn.Module, run: Run) -> list[str]:
        if not self.drop_blocks:
            return []
        run.progress.advance(0, 1, "what each block is worth")
        if not isinstance(self.drop_blocks, int):
            return named_blocks(student, self.drop_blocks, torch.zeros(1, *run.dataset.input_shape))
        split = run.dataset.train
        places = np.unique(np.linspace(0, len(split) - 1, min(len(split), self.samples)).astype(np.int64))
        inputs = normalised(rows(split, places), dataset=run.dataset)
        dropped = blocks_to_drop(student, inputs, count=self.drop_blocks)
        run.progress.say(f"{self.name}: taken out whole: {', '.join(dropped)}.")
        return dropped

    def _cut(self, student: nn.Module, example: Tensor, *, keep: float) -> dict[str, list[int]]:
        """Cut in place until the share `keep` of the operations is left; how many channels each group had and has."""
        if keep >= 1:
            return {}
        dependencies = Dependencies(student, example)
        groups = dependencies.groups()
        if not groups:
            raise NetworkRefused(
                f"no channel of {type(student).__name__} can go without breaking its forward(). "
                "Leave the prune stage out of the recipe."
            )
        scores = {
            group.root: self.importance(dependencies.group(group.root, range(group.channels))) for group in groups
        }

        def macs_of(widths: dict[str, int]) -> int:
            trial = copy.deepcopy(student)
            cut(trial, example, scores, widths)
            return macs(trial, example)

        widths = widths_for(keep, scores, multiple=self.multiple, least=self.least, macs_of=macs_of)
        cut(student, example, scores, widths)
        return {root: [len(scores[root]), width] for root, width in widths.items()}


def cut(module: nn.Module, example: Tensor, scores: Mapping[str, Tensor], widths: Mapping[str, int]) -> None:
    """Cut every group of `module`, in place, to its width."""
    dependencies = Dependencies(module, example)
    for root, width in widths.items():
        places = cut_places(scores[root], width)
        if places:
            dependencies.group(root, places).prune()
    module.zero_grad(set_to_none=True)
