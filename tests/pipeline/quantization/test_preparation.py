"""The search for the best network without training: every step is recorded, and only what helps is kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calibration.observers.minmax import MinMax
from calibration.observers.percentile import Percentile
from calibration.samples import Samples
from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.post_training import without_training
from pipeline.quantization.preparation import Preparation, answers_of, prepared
from pipeline.quantization.rounding import AdaptiveRounding
from pipeline.recipes.digits import RECIPE
from pipeline.stage import Run
from pipeline.stages.quantize import Quantize
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
QUICK = AdaptiveRounding(iterations=50)


def uneven() -> nn.Module:
    """Two layers whose channels differ by up to a factor of 1 000."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    factors = torch.logspace(-1.5, 1.5, 8)
    with torch.no_grad():
        network[0].weight.mul_(factors[:, None, None, None])
        network[0].bias.mul_(factors)
        network[2].weight.div_(factors[None, :, None, None])
    return network.eval()


@pytest.fixture
def samples() -> Samples:
    return Samples(np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32), origin="noise")


def test_of_6_steps_each_kept_one_has_the_least_error_so_far(samples: Samples) -> None:
    found = prepared(uneven(), samples, settings=Preparation(rounding=QUICK), scheme=SCHEME)
    assert [step for step, _, _ in found.tried][:4] == ["mse", "minmax", "percentile", "entropy"]
    assert [step for step, _, _ in found.tried][-1] == "biases corrected again"
    least = float("inf")
    for _, error, kept in found.tried:
        assert kept == (error < least)
        least = min(least, error)
    float_answers, answers = answers_of(uneven(), samples), answers_of(found.student, samples)
    error = float((answers - float_answers).square().sum() / (float_answers - float_answers.mean(0)).square().sum())
    assert error == pytest.approx(least, rel=1e-4)  # float32 sums over 96 answers


def test_channels_that_differ_by_1000_are_equalised_and_that_is_kept(samples: Samples) -> None:
    found = prepared(uneven(), samples, settings=Preparation(observers={"minmax": MinMax()}), scheme=SCHEME)
    by_step = {step: (error, kept) for step, error, kept in found.tried}
    assert by_step["minmax, equalised"][1]
    assert by_step["minmax, equalised"][0] < 0.5 * by_step["minmax"][0]


def test_a_step_that_harms_is_not_kept(samples: Samples) -> None:
    observers = {"minmax": MinMax(), "half": Percentile(percent=50.0)}  # cuts every second value off
    settings = Preparation(observers=observers, equalize=False, correct_biases=False)
    found = prepared(uneven(), samples, settings=settings, scheme=SCHEME)
    assert [kept for _, _, kept in found.tried] == [True, False]
    plain = prepared(
        uneven(),
        samples,
        settings=Preparation({"minmax": MinMax()}, equalize=False, correct_biases=False),
        scheme=SCHEME,
    )
    assert torch.equal(answers_of(found.student, samples), answers_of(plain.student, samples))


def test_a_prepared_candidate_is_built_again_from_its_facts_to_the_last_bit(
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    teacher = candidate_in(tmp_path / "teacher", uneven, tiny_data())
    stage = Quantize(training=None, preparation=Preparation(rounding=QUICK))
    run = run_in(tmp_path / "quantize", teacher=teacher)
    done = stage(teacher, run)
    assert len(done.facts["tried"]) == 8
    architecture = stage.architecture(teacher, run, dict(done.facts))
    again = Candidate(done.stage, done.form, done.digest, done.path, teacher, done.facts, architecture)
    inputs = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again.module()(inputs), done.module()(inputs))


def test_without_training_3_of_5_stages_are_left_and_the_student_is_the_teacher() -> None:
    recipe = without_training(RECIPE)
    assert [stage.name for stage in recipe.stages] == ["quantize", "export", "build"]
    assert recipe.student is None
    quantize = recipe.stages[0]
    assert isinstance(quantize, Quantize)
    assert quantize.training is None
    assert quantize.preparation is not None
