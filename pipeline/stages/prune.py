"""Take whole channels out of the network, then let the teacher teach it again."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.candidate import Architecture, Candidate, Form, save_weights
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.objective import distillation_objective
from pipeline.distillation.term import Term
from pipeline.errors import NetworkRefused
from pipeline.pruning.allocation import cut_places, widths_for
from pipeline.pruning.groups import Dependencies
from pipeline.pruning.magnitude import Magnitude
from pipeline.pruning.shapes import fitted_architecture, shapes_of
from pipeline.stage import Run
from pipeline.training.loop import Training, discard_checkpoint, train
from targets.budget import Budget


@dataclass(frozen=True)
class Prune:
    """Cut channels along the network's dependency groups until a share of its operations is left.

    keep_macs: the share of multiply-accumulates that stays · multiple: widths are multiples of it
    least: the share of its channels that every group keeps · training, terms: how accuracy is recovered
    """

    training: Training
    keep_macs: float = 0.5
    multiple: int = 8
    least: float = 0.25
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
        before = macs(student, example)
        widths = self._cut(student, example)
        share = macs(student, example) / before
        if share > self.keep_macs + 0.01:
            run.progress.say(
                f"{self.name}: {100 * share:.0f} % of the operations stay, {100 * self.keep_macs:.0f} % were asked: "
                f"what may be cut ends there (least={self.least}, multiple={self.multiple})."
            )
        shapes = shapes_of(student)
        with distillation_objective(student, terms=self.terms, settings=self.training, run=run) as objective:
            trained = train(student, objective=objective, settings=self.training, run=run)
        path = run.folder / "weights.safetensors"
        if run.workers.leads:
            save_weights(student, path)
            discard_checkpoint(run.folder)
        facts = {"widths": widths, "shapes": shapes, "macs_share": share, "validation_score": trained.best_score}
        return Candidate(
            self.name, self.gives, run.digest, path, candidate, facts, self.architecture(candidate, run, facts)
        )

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture:
        if candidate.architecture is None:
            raise TypeError("prune takes a torch candidate")
        return fitted_architecture(candidate.architecture, facts["shapes"])

    def _cut(self, student: nn.Module, example: Tensor) -> dict[str, list[int]]:
        """Cut in place; says for each group how many channels it had and has."""
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

        widths = widths_for(self.keep_macs, scores, multiple=self.multiple, least=self.least, macs_of=macs_of)
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


def macs(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers for one input, counted on a forward pass."""
    counts: list[int] = []

    def count(layer: Any, _inputs: Any, output: Tensor) -> None:
        counts.append(output.numel() // (layer.weight.shape[0]) * layer.weight.numel())

    handles = [
        layer.register_forward_hook(count)
        for layer in module.modules()
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        module.eval()(example)
    for handle in handles:
        handle.remove()
    return sum(counts)
