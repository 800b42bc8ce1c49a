"""Match where the teacher looks: normalised maps of the energy over channels.

Zagoruyko & Komodakis 2017, "Paying More Attention to Attention", arXiv:1612.03928, section 3.1, formula (2).

    Q = vec( Σ_c F_c² );   loss = ½ β · Σ_j ‖ Q_s/‖Q_s‖ − Q_t/‖Q_t‖ ‖₂ , averaged over the batch

The authors' public code takes the mean of squares instead of the norm; the formula of the paper is followed here.
Letters: F feature map (N, C, H, W); j pairs of layers; β weight. Maps of another height or width are pooled.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.distillation.term import Answers


@dataclass(frozen=True)
class AttentionTransfer:
    """Attention maps of pairs of layers, in the order given.

    weight: β
    """

    student_taps: tuple[str, ...]
    teacher_taps: tuple[str, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.student_taps) != len(self.teacher_taps) or not self.student_taps:
            raise ValueError("attention transfer wants as many student layers as teacher layers, and at least one")

    def __call__(self, student: Answers, teacher: Answers, labels: Tensor) -> Tensor:
        loss = student.logits.new_zeros(())
        for ours, theirs in zip(self.student_taps, self.teacher_taps, strict=True):
            loss = loss + distance(student.taps[ours], teacher.taps[theirs].detach())
        return 0.5 * self.weight * loss


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the batch of the distance of normalised maps; (N, C, H, W) each, C may differ."""
    ours, theirs = student.float().pow(2).sum(1, keepdim=True), teacher.float().pow(2).sum(1, keepdim=True)
    if ours.shape[2:] != theirs.shape[2:]:
        smaller = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
        ours, theirs = F.adaptive_avg_pool2d(ours, smaller), F.adaptive_avg_pool2d(theirs, smaller)
    ours, theirs = F.normalize(ours.flatten(1), dim=1), F.normalize(theirs.flatten(1), dim=1)  # (N, H·W)
    # The norm has no gradient at zero: 1e-12 under the root keeps it finite and moves the loss by 1e-6 at most.
    return torch.sqrt((ours - theirs).pow(2).sum(1) + 1e-12).mean()
