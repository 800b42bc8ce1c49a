"""What each layer's quantization costs: by hand, and against a network that is built anew for each question."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from calibration.samples import Samples
from pipeline.errors import NetworkRefused
from pipeline.quantization.fake_quant import switched_off
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.sensitivity import (
    Exam,
    modules_of,
    moves_in,
    quantizers_of,
    sensitivities,
    standings_with,
)
from targets.accuracy import top1
from targets.target import Scheme

SCHEME = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
SAMPLES = Samples(np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32), origin="noise")
EXAM = Exam(SAMPLES, np.arange(40) % 4, top1)


class Residual(nn.Module):
    """Two layers in a row, then an addition that a third layer takes part in; ReLUs work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(channels, 8, 3, padding=1) for channels in (3, 8, 8))
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.a(x))
        y = self.c(self.relu(self.b(x)))
        y += x
        answer: Tensor = self.head(self.relu(y).mean((2, 3)))
        return answer


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(128, 8), nn.ReLU(inplace=True), nn.Linear(8, 4),
    )  # fmt: skip


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def student_of(module: nn.Module, keep_float: tuple[str, ...] = ()) -> fx.GraphModule:
    """Quantized with a range of 3 for every tensor."""
    graph, placement = watched(module, keep_float=keep_float)
    return quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=SCHEME).eval()


def error_of(student: nn.Module, module: nn.Module) -> float:
    """The slow obvious way: both networks on all inputs at once."""
    with torch.no_grad():
        inputs = torch.from_numpy(np.array(SAMPLES.inputs))
        expected, answers = module(inputs.clone()).double(), student(inputs.clone()).double()
    return float((answers - expected).square().sum() / (expected - expected.mean(0)).square().sum())


def test_the_moves_of_3_layers_in_a_row_are_each_of_them_and_the_2_pairs_with_a_tensor_of_their_own() -> None:
    moves = {move.name: move.quantizers for move in moves_in(chain()).every()}
    assert moves == {
        "0": {"0", "quantizers.input_1"},
        "2": {"2"},
        "5": {"5", "quantizers._6"},
        "0 + 2": {"0", "2", "quantizers.input_1", "quantizers._1"},
        "2 + 5": {"2", "5", "quantizers._3", "quantizers._6"},
    }


def test_2_layers_with_an_addition_behind_them_keep_its_quantizers_while_a_third_is_integer() -> None:
    moves = moves_in(Residual())
    both = moves.of({"b", "c"})
    assert both.quantizers == {"b", "c", "quantizers.relu_1"}
    assert both in moves.every()
    assert [move.name for move in moves.every()] == ["a", "b", "c", "b + c"]


def test_1_of_3_layers_that_stays_float_anyway_is_in_no_move() -> None:
    assert [move.name for move in moves_in(chain(), keep_float=("2",)).every()] == ["0", "5"]
    with pytest.raises(NetworkRefused, match="no convolution or linear layer is called '3'"):
        moves_in(chain(), keep_float=("3",))
    with pytest.raises(NetworkRefused, match="nothing to quantize"):
        moves_in(chain()).of({"0", "2", "5"})


@pytest.mark.parametrize("make", [chain, Residual])
def test_a_layer_alone_in_float_is_as_far_off_as_a_network_that_is_built_so(make: Callable[[], nn.Module]) -> None:
    module = seeded(make)
    table = sensitivities(student_of(module), moves_in(module).every(), exam=EXAM, batch=16)
    assert len(table.rows) >= 4
    # Batches of 16, 16 and 8 against all 40 at once: float32 convolutions of another batch differ in the last bits, and
    # a value on the edge of two codes may fall to the other one.
    assert table.quantized.error == pytest.approx(error_of(student_of(module), module), rel=0.02)
    assert table.floating.error == 0
    for row in table.rows:
        built = student_of(module, keep_float=row.move.layers)
        assert row.alone_float.error == pytest.approx(error_of(built, module), rel=0.02)


@pytest.mark.parametrize("make", [chain, Residual])
def test_a_layer_alone_quantized_is_as_far_off_as_with_all_other_quantizers_off(make: Callable[[], nn.Module]) -> None:
    module = seeded(make)
    student = student_of(module)
    for row in sensitivities(student, moves_in(module).every(), exam=EXAM).rows:
        with switched_off(modules_of(student, quantizers_of(student) - row.move.quantizers)):
            expected = error_of(student, module)
        assert row.alone_quantized.error == pytest.approx(expected, rel=0.02)
        assert 0 < row.alone_quantized.error < 1


def test_the_score_counts_the_40_labels_that_the_answers_meet() -> None:
    module = seeded(chain)
    student = student_of(module)
    with torch.no_grad():
        right = top1(student(torch.from_numpy(np.array(SAMPLES.inputs))).numpy(), EXAM.labels)
    assert standings_with(student, [quantizers_of(student)], exam=EXAM, batch=40)[0].score == right.mean()


def test_2_times_the_same_question_gives_the_same_answer_and_the_network_is_as_it_was() -> None:
    module = seeded(Residual)
    student = student_of(module)
    before = error_of(student, module)
    moves = moves_in(module).every()
    assert sensitivities(student, moves, exam=EXAM) == sensitivities(student, moves, exam=EXAM)
    assert error_of(student, module) == before
    assert not any(each._disabled for each in modules_of(student, quantizers_of(student)))


def test_3_questions_to_3_batches_are_told_as_9_steps() -> None:
    module, seen = seeded(chain), []
    student = student_of(module)
    sets = [frozenset[str](), frozenset({"2"}), quantizers_of(student)]
    standings_with(student, sets, exam=EXAM, batch=16, told=lambda done, total, _: seen.append((done, total)))
    assert seen == [(done, 9) for done in range(1, 10)]
