"""How strictly an engine is compared with the torch network that it was made from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.candidate import Candidate
from pipeline.models.convnet import ConvNet
from pipeline.stage import Run
from pipeline.stages.same_answers import Parity


class Noisy:
    """An engine whose answers are these, in order."""

    def __init__(self, answers: np.ndarray) -> None:
        self.answers = answers

    def open(self, _path: Path, *, threads: int) -> "Noisy":
        self.left = iter(self.answers)
        return self

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.stack([next(self.left) for _ in inputs])

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(
    ("within_rounding", "off", "fails"), [(False, 1.0, True), (True, 1.0, False), (True, 4.0, True)]
)
def test_answers_as_unsure_as_float32_s_own_fail_unless_a_recipe_accepts_them_and_4_times_as_unsure_ones_always(
    within_rounding: bool, off: int, fails: bool, tmp_path: Path, run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
) -> None:  # fmt: skip
    run = run_in(tmp_path / "build")
    origin = candidate_in(tmp_path, partial(ConvNet, width=8, classes=4, channels=3), run.dataset)
    draws: list[Any] = [np.random.default_rng(seed).normal(size=(16, 4)) for seed in range(3)]
    exact, single, engine = draws[0], draws[0] + draws[1], Noisy(draws[0] + off * draws[2])
    kept = {("float64", origin.digest, "test"): exact, ("float32", origin.digest, "test"): single}
    parity = Parity(run, 0.999, within_rounding, kept)
    same = parity.on(run.dataset.test, tmp_path, engine=engine, origin=origin)  # type: ignore[arg-type]
    assert parity.fails(same) is fails
    assert parity.rounding(run.dataset.test, origin) == pytest.approx(np.sqrt(np.square(draws[1]).mean()))
