"""The sum of distillation terms as the objective of a training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from pipeline.distillation.teacher_answers import KeptAnswers, teacher_for
from pipeline.distillation.term import Answers, Term
from pipeline.stage import Run
from pipeline.training.batches import Batch, Loader
from pipeline.training.loop import Objective, Training, epochs_of
from pipeline.training.taps import tapped


@contextmanager
def distillation_objective(
    student: nn.Module, *, terms: Sequence[Term], settings: Training, run: Run
) -> Iterator[Objective]:
    """The objective `Σ term(student, teacher, labels)`; hooks stand on the student while the block lasts."""
    loader = Loader(
        run.dataset, settings.augment, settings.batch, run.seed, run.workers.rank, run.workers.count,
        run.workers.device,
    )  # fmt: skip
    teacher = teacher_for(run, loader, taps=sorted({name for term in terms for name in term.teacher_taps}))
    if isinstance(teacher, KeptAnswers):
        teacher.prepare(min(loader.views, epochs_of(settings, run)))
    with tapped(student, sorted({name for term in terms for name in term.student_taps})) as seen:

        def objective(module: nn.Module, batch: Batch) -> Tensor:
            answers = Answers(module(batch.inputs), seen)
            told = teacher(batch)
            losses = [term(answers, told, batch.labels) for term in terms]
            return sum(losses[1:], start=losses[0])

        yield objective
