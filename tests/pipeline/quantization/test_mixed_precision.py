"""Which layers go back to float: on real digits with a layer made hostile, and on scores that are made up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from calibration.observers.minmax import MinMax
from calibration.samples import Samples
from pipeline.candidate import Candidate, Form, save_weights
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.data.sklearn_digits import Digits
from pipeline.errors import NetworkRefused
from pipeline.post_training import with_mixed_precision, without_training
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.layer_prices import Prices
from pipeline.quantization.mixed_precision import Aim, Mix, MixedPrecision, mixed
from pipeline.quantization.preparation import Preparation
from pipeline.quantization.rounding import AdaptiveRounding
from pipeline.quantization.sensitivity import Exam, moves_in
from pipeline.recipes.digits import RECIPE
from pipeline.stage import Run
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.store import digest_of
from pipeline.training.loop import Training
from pipeline.training.optimizers import Sgd
from targets.accuracy import top1
from targets.budget import Budget, Limit
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")


def separable() -> nn.Module:
    """A convolution, a depthwise and a pointwise one, a convolution, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU(), nn.Conv2d(16, 32, 1),
        nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits(size=16)()


@pytest.fixture(scope="module")
def hostile(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """Random layers and a last one fitted by least squares; one depthwise channel is 100 times as large as it need be.

    What reads that channel is divided by 100, so that the answers stay what they were.
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network: Any = separable().eval()
        features = network[:-1](torch.from_numpy(inputs_for_network(digits, digits.train.inputs))).double()
        wanted = nn.functional.one_hot(torch.from_numpy(digits.train.labels), 10).double() - 0.1
        mean = features.mean(0)
        features -= mean
        ridge = 1e-3 * features.square().sum() / len(features) * torch.eye(512, dtype=torch.float64)
        weight = torch.linalg.solve(features.T @ features + ridge, features.T @ wanted)
        network[-1].weight.copy_(weight.T)
        network[-1].bias.copy_(0.1 - mean @ weight)
        network[2].weight[3] *= 100
        network[2].bias[3] *= 100
        network[4].weight[:, 3] /= 100
    path = tmp_path_factory.mktemp("hostile") / "weights.safetensors"
    save_weights(network, path)
    return Candidate("teacher", Form.TORCH, "1" * 64, path, None, {}, separable)


def test_the_2_layers_around_a_hostile_tensor_are_found_and_the_accuracy_comes_back_in_the_engine(
    digits: Dataset, hostile: Candidate, run_in: Callable[..., Run], tmp_path: Path
) -> None:
    runs = {each: run_in(tmp_path / each, dataset=digits, teacher=hostile) for each in ("q", "e", "b")}
    elsewhere = replace(runs["q"].target, is_here=lambda: False)  # no clock: multiply-accumulates are the price
    stage = Quantize(training=None, observer=MinMax(), mixed=MixedPrecision(max_drop_points=1.6))
    done = stage(hostile, replace(runs["q"], target=elsewhere))
    found = done.facts["precision"]
    # 3 of 197 validation inputs are 1.5 points.
    assert found["float_score"] > 0.95
    assert found["quantized_score"] < 0.6
    assert found["met"]
    assert found["float_score"] - done.facts["validation_score"] <= 0.016
    assert found["unit"] == "MACs"
    worst = max(found["rows"], key=lambda row: row["error_alone_quantized"])
    assert worst["layers"] == ["2", "4"]
    assert [row["layers"] for row in found["rows"] if row["float"]] == [["2"], ["4"], ["2", "4"]]
    kept = done.facts["placement"]["kept_float"]
    assert list(kept) == ["9", "2", "4"]
    assert kept["2"].startswith("mixed precision: quantized together with 4, it alone puts the answers off by")
    assert done.facts["placement"]["weights"] == ("0", "6")
    if not runs["q"].target.is_here():
        pytest.skip("an x86 processor is missing")
    built = Build(0.98, best_of=False)(Export(0.98)(done, runs["e"]), runs["b"])
    assert (built.facts["operators"]["integer"], built.facts["operators"]["floating"]) == (2, 3)


def test_on_the_target_itself_1_layer_costs_the_ms_that_its_integers_save(
    digits: Dataset, hostile: Candidate, run_in: Callable[..., Run], tmp_path: Path
) -> None:
    run = run_in(tmp_path, dataset=digits, teacher=hostile)
    if not run.target.is_here():
        pytest.skip("an x86 processor is missing")
    mix = MixedPrecision(max_drop_points=1.6, samples=32)
    found = Quantize(training=None, observer=MinMax(), samples=64, mixed=mix)(hostile, run).facts["precision"]
    assert found["unit"] == "ms"
    assert found["met"]
    assert all(0 < row["price"] < 1000 for row in found["rows"])
    assert sorted(path.name for path in run.folder.iterdir()) == ["ranges.json", "weights.safetensors"]


def test_a_network_within_the_drop_keeps_its_4_integer_layers_and_is_not_asked_further(
    digits: Dataset, hostile: Candidate, run_in: Callable[..., Run], tmp_path: Path
) -> None:
    stage = Quantize(training=None, samples=64, preparation=Preparation({"minmax": MinMax()}), mixed=MixedPrecision(3))
    done = stage(hostile, run_in(tmp_path, dataset=digits, teacher=hostile))
    assert [step for step, _, _ in done.facts["tried"]] == ["minmax", "minmax, equalised", "biases corrected"]
    assert done.facts["precision"]["met"]  # equalisation repairs the hostile channel
    assert done.facts["precision"]["rows"] == []
    assert len(done.facts["placement"]["weights"]) == 4


def test_1_layer_that_is_named_stays_float_with_every_step_of_the_preparation(
    digits: Dataset, hostile: Candidate, run_in: Callable[..., Run], tmp_path: Path
) -> None:
    steps = Preparation({"minmax": MinMax()}, rounding=AdaptiveRounding(iterations=20))
    stage = Quantize(training=None, samples=32, preparation=steps, keep_float=("2",))
    run = run_in(tmp_path, dataset=digits, teacher=hostile)
    done = stage(hostile, run)
    assert done.facts["placement"]["weights"] == ("0", "4", "6")
    assert done.facts["placement"]["kept_float"]["2"] == "asked for"
    assert [step for step, _, _ in done.facts["tried"]][-3:] == [
        "biases corrected", "rounding chosen", "biases corrected again",
    ]  # fmt: skip
    assert type(done.module().get_submodule("2")) is nn.Conv2d
    with pytest.raises(NetworkRefused, match="no convolution or linear layer is called 'two'"):
        Quantize(training=None, keep_float=("two",))(hostile, run)


def test_1_layer_in_float_is_trained_with_the_others_and_built_again_from_the_facts_to_the_last_bit(
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    data = tiny_data((1, 16, 16))
    teacher = candidate_in(tmp_path / "teacher", separable, data)
    stage = Quantize(Training(epochs=1, batch=16, optimizer=Sgd(lr=0.02)), samples=32, keep_float=("2",))
    run = run_in(tmp_path / "q", dataset=data, teacher=teacher)
    done = stage(teacher, run)
    assert not torch.equal(done.module().get_submodule("2").weight, teacher.module().get_submodule("2").weight)
    again = replace(done, architecture=stage.architecture(teacher, run, dict(done.facts))).module()
    inputs = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(inputs), done.module()(inputs))


def test_each_of_2_settings_changes_the_digest() -> None:
    stages = (
        Quantize(),
        Quantize(keep_float=("2",)),
        Quantize(mixed=MixedPrecision()),
        Quantize(mixed=MixedPrecision(2)),
    )
    assert len({digest_of(stage) for stage in stages}) == 4


def test_1_point_may_be_lost_unless_the_budget_allows_2() -> None:
    for budget, expected in ((Budget(), 1.0), (Budget((Limit("max_accuracy_drop_points", 2.0, "by hand"),)), 2.0)):
        stage = with_mixed_precision(without_training(RECIPE), budget=budget).stages[0]
        assert isinstance(stage, Quantize)
        assert stage.mixed == MixedPrecision(max_drop_points=expected)
    assert all(getattr(stage, "mixed", None) is None for stage in RECIPE.stages)


def chosen(
    scores: Callable[[tuple[str, ...]], float], *, prices: dict[str, float] | None = None, quantized_score: float = 1.0
) -> tuple[Mix, list[tuple[str, ...]]]:
    """What is chosen of five equal linear layers at an allowed drop of 10 points, and which sets were asked for."""
    asked: list[tuple[str, ...]] = []

    def validated(layers: tuple[str, ...]) -> float:
        asked.append(layers)
        return scores(layers)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(*(nn.Linear(6, 6) for _ in range(6))).eval()
    samples = Samples(np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32), origin="noise")
    graph, placement = watched(network)
    student = quantized(graph, placement, amax=dict.fromkeys(placement.activations, 2.0), scheme=SCHEME).eval()
    costs = Prices(prices or dict.fromkeys(placement.weights, 1.0), "ms", "made up")
    exam = Exam(samples, np.zeros(16, dtype=np.int64), top1)
    found = mixed(
        student, moves_in(network), exam=exam, prices=costs, validated=validated, aim=Aim(1.0, quantized_score, 0.1)
    )
    return found, asked


def test_of_5_layers_the_1_that_helps_is_left_in_float_and_the_others_are_given_back() -> None:
    found, asked = chosen(lambda layers: 0.95 if "3" in layers else 0.5)
    assert found.met
    assert found.layers == ("3",)
    assert found.score == 0.95
    assert len(asked) == len(set(asked))  # no set is measured twice


def test_the_first_of_5_layers_is_the_dearest_no_more_once_it_is_1000_times_as_cheap() -> None:
    dear = {"0": 1.0, "1": 1000.0, "2": 1000.0, "3": 1000.0, "4": 1000.0}
    _, asked = chosen(lambda layers: 1.0, prices=dear)
    assert asked == [("0",)]
    _, asked = chosen(lambda layers: 1.0, prices={**dear, "0": 1000.0, "2": 1.0})
    assert asked == [("2",)]


def test_where_nothing_helps_0_layers_go_back_to_float() -> None:
    found, asked = chosen(lambda layers: 0.5)
    assert not found.met
    assert found.layers == ()
    assert max(map(len, asked)) == 4  # one layer is always left in integers


def test_a_limit_that_is_out_of_reach_leaves_the_best_score_and_of_equals_the_fewest_layers() -> None:
    found, _ = chosen(lambda layers: 0.6 if layers else 0.5)
    assert not found.met
    assert len(found.layers) <= 2
    assert found.score == 0.6


def test_a_lucky_score_with_1_layer_in_float_is_not_believed_while_the_error_foretells_a_drop_of_more_than_10() -> None:
    found, asked = chosen(lambda layers: 1.0, quantized_score=0.5)
    assert found.met
    assert asked[0] not in (found.layers, ())
    assert len(asked[0]) == 1
    assert len(found.layers) > 1
    assert {each.layers: each.foretold <= 0.1 for each in found.tested}[found.layers]


def test_a_mix_that_may_lose_less_than_0_points_is_refused() -> None:
    with pytest.raises(ValueError, match="an allowed drop of 0 points or more"):
        MixedPrecision(max_drop_points=-1)
