"""Do a piece of work once: find its result by digest, or make it and keep it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.candidate import Architecture, Candidate, Form
from pipeline.stage import Run
from pipeline.store import Store
from targets.stopwatch import now_s


@dataclass(frozen=True)
class Step:
    """A stage bound to its input.

    work: makes the result · architecture: the empty network of a kept result, from the facts kept with it
    """

    name: str
    form: Form
    parent: Candidate | None
    work: Callable[[Run], Candidate]
    architecture: Callable[[Mapping[str, Any]], Architecture | None]


@dataclass(frozen=True)
class Done:
    """A candidate and how it was come by; `seconds` is what making it took, also when it was made by an earlier run."""

    candidate: Candidate
    reused: bool
    seconds: float


def done_once(step: Step, run: Run, store: Store) -> Done:
    """The result of `step`, from the store or made now in `run.folder`.

    Every process trains; what is not training is made by process 0 alone, and the others wait for its file.
    """
    found = run.workers.from_leader(store.find(step.name, run.digest) if run.workers.leads else None)
    if found is None:
        found = _made(step, run, store)
        reused = False
    else:
        reused = True
    candidate = Candidate(
        step.name, step.form, run.digest, run.folder / found["facts"]["file"], step.parent,
        found["facts"]["said"], step.architecture(found["facts"]["said"]),
    )  # fmt: skip
    return Done(candidate, reused, float(found["facts"]["seconds"]))


def _made(step: Step, run: Run, store: Store) -> dict[str, Any]:
    began_s = now_s()
    finished: dict[str, Any] | None = None
    candidate = step.work(run) if run.workers.leads or step.form is Form.TORCH else None
    if run.workers.leads and candidate is not None:
        facts = {"file": candidate.path.name, "said": dict(candidate.facts), "seconds": now_s() - began_s}
        finished = store.finish(step.name, run.digest, files=(candidate.path.name,), facts=facts)
    finished = run.workers.from_leader(finished)
    assert finished is not None
    return finished
