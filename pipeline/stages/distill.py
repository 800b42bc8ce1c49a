"""Teach the student what the teacher answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.term import Term
from pipeline.models.checkpoint import load_state
from pipeline.stage import Run
from pipeline.stages.trained_student import trained_student
from pipeline.training.loop import Training
from pipeline.training.seeds import random_state_kept, seed_for
from pipeline.training.trial import built, refuse_misfit
from targets.budget import Budget


@dataclass(frozen=True)
class Distill:
    """Train the recipe's student against the teacher; without one, the teacher's own copy trains on.

    training: how long and how fast · terms: the losses, added up
    """

    training: Training
    terms: tuple[Term, ...] = (SoftTargets(),)
    limits: Budget = Budget()
    name: str = "distill"

    takes = Form.TORCH
    gives = Form.TORCH
    for_target = False

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        architecture = self.architecture(candidate, run, {})
        if run.student is None:
            student = candidate.module()
        else:
            with random_state_kept(seed_for(run.seed, "student")):
                student = built(run.student, role="student")
            if run.student_weights is not None:
                load_state(student, run.student_weights, path=None)
            refuse_misfit(student, role="student", run=run)
        trained, path = trained_student(student, terms=self.terms, settings=self.training, run=run)
        facts = {"validation_score": trained.best_score, "epochs": len(trained.history)}
        return Candidate(self.name, self.gives, run.digest, path, candidate, facts, architecture)

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture:
        architecture = run.student or candidate.architecture
        if architecture is None:
            raise TypeError("distill takes a torch candidate")
        return architecture
