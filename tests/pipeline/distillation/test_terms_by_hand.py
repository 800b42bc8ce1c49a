"""The distillation losses against numbers that can be worked out on paper."""

import math

import pytest
import torch
import torch.nn.functional as F

from pipeline.distillation.attention import AttentionTransfer, distance
from pipeline.distillation.logits import SoftTargets
from pipeline.distillation.term import Answers

LABEL = torch.tensor([0])


def test_soft_targets_of_2_classes_by_hand() -> None:
    # T = 2. Teacher (2·ln 3, 0) → softmax(ln 3, 0) = (3/4, 1/4); student (0, 0) → (1/2, 1/2).
    # KL = 3/4 · ln(3/2) + 1/4 · ln(1/2) = 0.13081; times T² = 0.52325.
    student, teacher = Answers(torch.zeros(1, 2)), Answers(torch.tensor([[2 * math.log(3), 0.0]]))
    loss = SoftTargets(temperature=2.0, weight=1.0)(student, teacher, LABEL)
    assert float(loss) == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), abs=1e-6)  # float32
    assert float(loss) == pytest.approx(0.52325, abs=5e-6)


def test_a_weight_of_0_9_takes_a_tenth_of_the_cross_entropy_of_ln_2() -> None:
    student, teacher = Answers(torch.zeros(1, 2)), Answers(torch.tensor([[2 * math.log(3), 0.0]]))
    soft = float(SoftTargets(temperature=2.0, weight=1.0)(student, teacher, LABEL))
    both = float(SoftTargets(temperature=2.0, weight=0.9)(student, teacher, LABEL))
    assert both == pytest.approx(0.9 * soft + 0.1 * math.log(2), abs=1e-6)  # float32
    assert float(SoftTargets(weight=0.0)(student, teacher, LABEL)) == pytest.approx(math.log(2), abs=1e-6)


def test_the_loss_is_the_mean_over_a_batch_of_3() -> None:
    torch.manual_seed(0)
    student, teacher, labels = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([4, 0, 2])
    term = SoftTargets(temperature=3.0, weight=0.7)
    alone = [float(term(Answers(student[[n]]), Answers(teacher[[n]]), labels[[n]])) for n in range(3)]
    assert float(term(Answers(student), Answers(teacher), labels)) == pytest.approx(sum(alone) / 3, abs=1e-6)  # float32


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_the_gradient_is_t_times_the_difference_of_softened_probabilities(temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(1, 5, requires_grad=True), torch.randn(1, 5)
    SoftTargets(temperature=temperature, weight=1.0)(Answers(student), Answers(teacher), LABEL).backward()  # type: ignore[no-untyped-call]
    difference = F.softmax(student.detach() / temperature, 1) - F.softmax(teacher / temperature, 1)
    # d KL / d s = (p_s − p_t) / T; times T² leaves T. Float32.
    torch.testing.assert_close(student.grad, temperature * difference, rtol=1e-4, atol=1e-6)


def test_from_t_20_to_t_40_the_gradient_changes_by_less_than_5_percent() -> None:
    # Hinton et al. 2015, formula (4): for large T the gradient of the soft part is 1/(N·T²), so T² keeps its weight.
    torch.manual_seed(0)
    gradients = []
    for temperature in (20.0, 40.0):
        torch.manual_seed(1)
        student, teacher = torch.randn(1, 5, requires_grad=True), torch.randn(1, 5)
        SoftTargets(temperature=temperature, weight=1.0)(Answers(student), Answers(teacher), LABEL).backward()  # type: ignore[no-untyped-call]
        gradients.append(student.grad)
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 0.05


@pytest.mark.parametrize(("temperature", "weight"), [(0.0, 0.5), (-1.0, 0.5), (4.0, -0.1), (4.0, 1.1)])
def test_4_senseless_settings_are_refused(temperature: float, weight: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        SoftTargets(temperature=temperature, weight=weight)


def test_logits_of_1000_stay_finite() -> None:
    student, teacher = torch.tensor([[1000.0, -1000.0]]), torch.tensor([[-1000.0, 1000.0]])
    assert math.isfinite(float(SoftTargets()(Answers(student), Answers(teacher), LABEL)))


def test_attention_of_2_pixels_by_hand() -> None:
    # Student: channels (1, 0) and (0, 0): Q = (1, 0), of length 1. Teacher: one channel (3, 2): Q = (9, 4),
    # divided by √97: (0.91381, 0.40614). Distance √(0.08619² + 0.40614²) = 0.41518; half of it, β = 10: 2.0759.
    student = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]])  # (1, 2, 1, 2)
    teacher = torch.tensor([[[[3.0, 2.0]]]])  # (1, 1, 1, 2)
    term = AttentionTransfer(("a",), ("b",), weight=10.0)
    loss = term(Answers(torch.zeros(1, 2), {"a": student}), Answers(torch.zeros(1, 2), {"b": teacher}), LABEL)
    assert float(loss) == pytest.approx(2.0759, abs=5e-5)  # four digits on paper


def test_attention_is_summed_over_2_pairs_and_averaged_over_2_inputs() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    alone = [float(distance(ours[[n]], theirs[[n]])) for n in range(2)]
    assert float(distance(ours, theirs)) == pytest.approx(sum(alone) / 2, abs=1e-6)  # float32
    term = AttentionTransfer(("a", "b"), ("c", "d"), weight=1.0)
    student = Answers(torch.zeros(2, 2), {"a": ours, "b": ours[:, :1]})
    teacher = Answers(torch.zeros(2, 2), {"c": theirs, "d": theirs[:, :1]})
    expected = 0.5 * (float(distance(ours, theirs)) + float(distance(ours[:, :1], theirs[:, :1])))
    assert float(term(student, teacher, LABEL)) == pytest.approx(expected, abs=1e-6)  # float32


def test_attention_does_not_see_a_scale_of_7() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    assert float(distance(7 * ours, theirs)) == pytest.approx(float(distance(ours, theirs)), abs=1e-5)  # float32


def test_a_map_of_8_by_8_is_pooled_to_4_by_4_and_matches_the_same_map() -> None:
    torch.manual_seed(0)
    small = torch.rand(2, 1, 4, 4)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)  # (2, 1, 8, 8)
    assert float(distance(large, small)) < 2e-6  # 1e-12 under the root gives 1e-6


def test_a_map_of_zeros_gives_finite_gradients() -> None:
    ours = torch.zeros(2, 3, 4, 4, requires_grad=True)
    distance(ours, torch.rand(2, 5, 4, 4)).backward()  # type: ignore[no-untyped-call]
    assert ours.grad is not None
    assert bool(ours.grad.isfinite().all())


def test_1_layer_against_2_is_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        AttentionTransfer(("a",), ("b", "c"))
    with pytest.raises(ValueError, match="at least one"):
        AttentionTransfer((), ())
