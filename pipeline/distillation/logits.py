"""Match the teacher's softened class probabilities, and the labels.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2.

    loss = α · T² · KL( softmax(t / T) ‖ softmax(s / T) ) + (1 − α) · CE(s, y),   averaged over the batch

The gradient of the soft part scales as 1/T², so it is multiplied by T² and keeps its weight when T changes.
Letters: t, s logits of teacher and student (N, K); y labels (N,); N inputs, K classes, T temperature, α weight.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pipeline.distillation.term import Answers


@dataclass(frozen=True)
class SoftTargets:
    """Soft and hard targets.

    temperature: T > 0 · weight: α in 0..1, the share of the soft part
    """

    temperature: float = 4.0
    weight: float = 0.9
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.temperature > 0 or not 0 <= self.weight <= 1:
            raise ValueError(f"temperature must be above 0 and weight in 0..1, not {self.temperature}, {self.weight}")

    def __call__(self, student: Answers, teacher: Answers, labels: Tensor) -> Tensor:
        T = self.temperature
        soft = F.kl_div(
            F.log_softmax(student.logits.float() / T, dim=1),  # (N, K)
            F.log_softmax(teacher.logits.detach().float() / T, dim=1),  # (N, K)
            reduction="batchmean",
            log_target=True,
        )
        loss = self.weight * T * T * soft
        if self.weight < 1:
            loss = loss + (1 - self.weight) * F.cross_entropy(student.logits.float(), labels)
        return loss
