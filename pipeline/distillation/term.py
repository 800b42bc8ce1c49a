"""One distillation loss: the interface that every method of this folder has.

A term is a frozen dataclass of settings. `__call__(student, teacher, labels)` gives a scalar; the gradient reaches the
student only. `student_taps` and `teacher_taps` name the layers whose activations it wants to see.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """What a network said: logits (N, K) and the tapped activations by layer name."""

    logits: Tensor
    taps: Mapping[str, Tensor] = field(default_factory=dict)


class Term(Protocol):
    """The interface of a distillation method."""

    @property
    def student_taps(self) -> tuple[str, ...]: ...

    @property
    def teacher_taps(self) -> tuple[str, ...]: ...

    def __call__(self, student: Answers, teacher: Answers, labels: Tensor) -> Tensor: ...
