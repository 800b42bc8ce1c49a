"""How distill and prune end: the student is trained against the teacher's answers, and its best weights are kept."""

from pathlib import Path

from torch import nn

from pipeline.candidate import save_weights
from pipeline.distillation.objective import distillation_objective
from pipeline.distillation.term import Term
from pipeline.stage import Run
from pipeline.training.loop import Trained, Training, discard_checkpoint, train


def trained_student(
    student: nn.Module, *, terms: tuple[Term, ...], settings: Training, run: Run
) -> tuple[Trained, Path]:
    """Train in place; what it came to, and the file of the weights."""
    with distillation_objective(student, terms=terms, settings=settings, run=run) as objective:
        trained = train(student, objective=objective, settings=settings, run=run)
    path = run.folder / "weights.safetensors"
    if run.workers.leads:
        save_weights(student, path)
        discard_checkpoint(run.folder)
    return trained, path
