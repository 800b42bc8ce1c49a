"""One step of the journey: a candidate goes in, another comes out.

A stage is a frozen dataclass of settings. It never changes the candidate it is given, writes only inside `run.folder`,
and draws its random numbers from `run.seed`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.data.dataset import Dataset
from pipeline.progress import Progress
from pipeline.workers import Workers
from targets.budget import Budget
from targets.target import Target

Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Run:
    """What every stage of one run shares.

    teacher: None only while the teacher itself is made
    student: builds the empty student, or None when the student is the teacher's own architecture
    student_weights: the state the student starts from, or None · folder: the only place the stage may write
    digest: of everything the result depends on
    shared: where answers of the teacher are kept for all stages of the run
    """

    target: Target
    dataset: Dataset
    teacher: Candidate | None
    student: Architecture | None
    student_weights: Mapping[str, Any] | None
    metric: Metric
    folder: Path
    digest: str
    shared: Path
    seed: int
    threads: int
    epochs_scale: float
    workers: Workers
    progress: Progress

    def the_teacher(self) -> Candidate:
        """The teacher, which every stage after the first has."""
        if self.teacher is None:
            raise TypeError("this run has no teacher yet")
        return self.teacher


class Stage(Protocol):
    """The interface of a stage; `name` is the verb that the user reads."""

    @property
    def name(self) -> str: ...

    @property
    def takes(self) -> Form: ...

    @property
    def gives(self) -> Form: ...

    @property
    def limits(self) -> Budget: ...

    @property
    def for_target(self) -> bool:
        """Whether the result depends on the target (its integer scheme, its runtime)."""
        ...

    def __call__(self, candidate: Candidate, run: Run) -> Candidate:
        """Do the work; the result's `path` lies in `run.folder` and its parent is `candidate`."""
        ...

    def architecture(self, candidate: Candidate, run: Run, facts: Mapping[str, Any]) -> Architecture | None:
        """The empty network of a result made earlier from `candidate`; None unless the stage gives torch."""
        ...
