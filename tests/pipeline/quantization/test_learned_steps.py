"""Learned step sizes: the gradient by hand and against autograd, and an ordinary network before and after."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.fake_quant import (
    DEAD,
    QuantizedWeight,
    activation_quantizer,
    channel_amax,
    exportable,
    weight_quantizer,
)
from pipeline.quantization.insert import quantized, watched
from pipeline.quantization.learned_steps import LearnedSteps, power_of_two_near, steps_fixed, with_learned_steps
from pipeline.stage import Run
from pipeline.stages.export import answers_of_onnx, onnx_of
from pipeline.training import loop
from pipeline.training.batches import Batch
from pipeline.training.loop import Training, train, validation_score
from pipeline.training.optimizers import AdamW, Sgd, groups
from targets.target import Scheme

MakeRun = Callable[..., Run]
MakeObjective = Callable[..., Callable[[nn.Module, Batch], Tensor]]
SHORT = Training(epochs=3, batch=16, optimizer=AdamW(lr=1e-3))


def residual() -> nn.Module:
    return ResNetCifar(8, width=4, classes=4)


def student(network: Callable[[], nn.Module] = residual) -> fx.GraphModule:
    """A quantized network with 7-bit weights, every activation in the range 3."""
    scheme = Scheme(weight_bits=7, unsigned_activations=True, signed_zero_point=128, why="for the test")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph, placement = watched(network().eval())
    return quantized(graph, placement, amax=dict.fromkeys(placement.activations, 3.0), scheme=scheme).eval()


def small() -> fx.GraphModule:
    """Two convolutions, and a last layer that stays float."""
    return student(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )
    )  # fmt: skip


def learned_of(module: nn.Module) -> dict[str, LearnedSteps]:
    return {name: each for name, each in module.named_modules() if isinstance(each, LearnedSteps)}


def slow_version(values: Tensor, step: Tensor, *, lowest: int, highest: int, sharing: int) -> Tensor:
    """LSQ as its appendix B writes it: autograd, with rounding and the scale of gradients passed straight through."""
    scale = 1 / (sharing * highest) ** 0.5
    step = step * scale + (step - step * scale).detach()
    place = (values / step).clamp(lowest, highest)
    return (place + (place.round() - place).detach()) * step


def test_the_gradient_of_5_numbers_is_the_one_on_paper() -> None:
    # s = 0.5, codes −128..127: places −200, 1.2, 2.6, −1.8, 160, so that ∂v̂/∂s is −128, −0.2, 0.4, −0.2, 127: sum −1.
    steps = LearnedSteps(activation_quantizer(amax=63.5, unsigned=False), start=1.0)
    values = torch.tensor([[-100.0, 0.6, 1.3, -0.9, 80.0]], requires_grad=True)
    answer = steps(values)
    assert answer.tolist() == [[-64.0, 0.5, 1.5, -1.0, 63.5]]
    answer.sum().backward()
    assert values.grad is not None
    assert steps.size.grad is not None
    assert values.grad.tolist() == [[0.0, 1.0, 1.0, 1.0, 0.0]]
    # g · p₀ / s₀ · (−1) = −1 / √(5 · 127) / 0.5; 1.2 and 2.6 are known to a millionth in float32.
    assert float(steps.size.grad) == pytest.approx(-0.079367, abs=1e-6)


@pytest.mark.parametrize("kind", ["signed", "unsigned", "7 bits per channel", "8 bits per channel"])
def test_the_gradient_of_1200_numbers_is_that_of_autograd_through_the_slow_version(kind: str) -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 200)
    if kind.endswith("channel"):
        quantizer = weight_quantizer(0.4 * values, bits=int(kind[0]), axis=0)  # a range that cuts some off
        highest, sharing = 2 ** (int(kind[0]) - 1) - 1, 200
        lowest = -highest
    else:
        values = values.abs() if kind == "unsigned" else values
        quantizer = activation_quantizer(amax=1.5, unsigned=kind == "unsigned")
        lowest, highest, sharing = (0, 255, 200) if kind == "unsigned" else (-128, 127, 200)
    steps = LearnedSteps(quantizer)
    weights = torch.randn(6, 200)
    fast, slow = values.clone().requires_grad_(), values.clone().requires_grad_()
    step = (quantizer._amax.detach().clone() / highest).requires_grad_()  # type: ignore[operator]
    (steps(fast) * weights).sum().backward()
    slow_loss: Any = (slow_version(slow, step, lowest=lowest, highest=highest, sharing=sharing) * weights).sum()
    slow_loss.backward()
    assert fast.grad is not None and slow.grad is not None
    assert steps.size.grad is not None and step.grad is not None
    # A value whose place lies on a border within float32 may fall to either side.
    near = (values / step.detach() - torch.tensor([float(lowest), float(highest)])[:, None, None]).abs().amin(0) < 1e-3
    torch.testing.assert_close(fast.grad[~near], slow.grad[~near], rtol=1e-6, atol=0)  # times s and divided by it
    # Sums of 200 or 1 200 float32 numbers up to 255 in another order.
    torch.testing.assert_close(steps.size.grad * steps.unit / highest, step.grad.flatten(), rtol=1e-4, atol=1e-3)


def test_20_steps_of_sgd_with_momentum_move_the_step_size_as_in_the_paper() -> None:
    torch.manual_seed(0)
    values = torch.randn(8, 50)
    steps = LearnedSteps(activation_quantizer(amax=1.0, unsigned=False))
    step = torch.tensor(1.0 / 127, requires_grad=True)
    ours, theirs = (torch.optim.SGD([each], lr=2e-4, momentum=0.9) for each in (steps.size, step))
    for _ in range(20):
        ours.zero_grad()
        theirs.zero_grad()
        (steps(values) - values).square().mean().backward()
        slow_loss: Any = (slow_version(values, step, lowest=-128, highest=127, sharing=50) - values).square().mean()
        slow_loss.backward()
        ours.step()
        theirs.step()
    assert float(step.detach()) * 127 > 1.1  # it has moved
    # A value at the middle between two codes may round to either, in one of 20 steps.
    steps.keep()
    assert float(steps.quantizer._amax) == pytest.approx(127 * float(step.detach()), rel=1e-4)


def test_a_network_with_learned_steps_answers_as_before_to_the_bit_and_so_does_the_one_that_comes_back() -> None:
    inputs = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    graph = student()
    names, expected = list(graph.state_dict()), graph(inputs)
    with_learned_steps(graph, weights=True)
    assert len(learned_of(graph)) == 7 + 12  # weights and activations
    assert torch.equal(graph(inputs), expected)
    assert torch.equal(graph.train()(inputs), expected)  # no range follows a weight
    with torch.no_grad():
        for steps in learned_of(graph).values():
            steps.size.mul_(0.7)
    graph.eval()
    changed = graph(inputs)
    assert not torch.equal(changed, expected)
    steps_fixed(graph)
    assert learned_of(graph) == {}
    assert list(graph.state_dict()) == names
    assert torch.equal(graph(inputs), changed)
    assert len(list(exportable(graph).parameters())) == 16  # weights and biases alone


def test_weights_that_a_learned_range_cuts_off_at_0_7_of_the_largest_are_cut_off_in_onnx_too(tmp_path: Path) -> None:
    graph = with_learned_steps(student(), weights=True)
    with torch.no_grad():
        for steps in learned_of(graph).values():
            steps.size.mul_(0.7)
    steps_fixed(graph.eval())
    for layer in (each for each in graph.modules() if isinstance(each, QuantizedWeight)):
        assert bool((layer.layer.weight.abs() <= layer.quantizer._amax).all())  # type: ignore[operator]
    inputs = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = graph(inputs).detach().numpy()
    onnx.save(onnx_of(graph, input_shape=(3, 16, 16)), tmp_path / "student.onnx")
    got = answers_of_onnx(tmp_path / "student.onnx", inputs.numpy())
    # A sum on the border between two codes may fall to either: 0.05 % here, and 14 % if no weight is cut.
    assert float(np.abs(got - expected).mean()) < 0.01 * float(np.abs(expected).mean())


def test_without_weights_only_the_12_activations_are_learned_and_the_weights_are_followed() -> None:
    graph = with_learned_steps(student())
    assert len(learned_of(graph)) == 12
    layer = graph.get_submodule("conv1")
    assert isinstance(layer, QuantizedWeight)
    with torch.no_grad():
        layer.layer.weight.mul_(2)  # type: ignore[operator]
    graph.train()(torch.zeros(1, 3, 16, 16))
    assert torch.equal(layer.quantizer._amax, channel_amax(layer.layer.weight, axis=0))  # type: ignore[arg-type]


def test_no_range_of_19_is_decayed_by_an_optimiser() -> None:
    graph = with_learned_steps(student(), weights=True)
    decayed = {id(each) for group in groups(graph.parameters(), weight_decay=0.1) for each in group["params"]
               if group["weight_decay"]}  # fmt: skip
    assert not decayed & {id(steps.size) for steps in learned_of(graph).values()}
    assert len(decayed) == 8  # the weights


def test_a_range_that_is_pushed_below_0_stays_at_a_ten_thousandth_and_leaves_it_with_the_next_step() -> None:
    graph = with_learned_steps(nn.Sequential(QuantizedWeight(nn.Linear(4, 3), bits=7)), weights=True)
    (steps,) = learned_of(graph).values()
    floor = DEAD * float(steps.quantizer._amax.max())
    with torch.no_grad():
        steps.size[1] = -5.0
    answer = graph(torch.ones(2, 4))
    assert bool(answer.isfinite().all())
    assert float(steps.quantizer._amax.min()) == pytest.approx(floor)
    answer[:, 1].sum().backward()
    assert steps.size.grad is not None
    assert float(steps.size.grad[1].abs()) > 0
    with torch.no_grad():
        steps.size[1] += 2 * floor / steps.unit[1]
    graph(torch.ones(2, 4))
    assert float(steps.quantizer._amax.min()) == pytest.approx(3 * floor)


@pytest.mark.parametrize(("killed_at", "weights"), [(4, True), (6, False)])
def test_a_training_of_12_steps_killed_and_continued_ends_with_the_bits_of_one_that_was_not(
    run_in: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: int,
    weights: bool,
    labels_objective: MakeObjective,
    killed: type[BaseException],
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)  # a checkpoint after every step
    whole, broken, resumed = (with_learned_steps(small(), weights=weights) for _ in range(3))
    expected = train(whole, objective=labels_objective(), settings=SHORT, run=run_in(tmp_path / "a"))
    run = run_in(tmp_path / "b")
    with pytest.raises(killed):
        train(broken, objective=labels_objective(killed_at=killed_at), settings=SHORT, run=run)
    got = train(resumed, objective=labels_objective(killed_at=12 - killed_at), settings=SHORT, run=run)
    assert got == expected
    theirs = resumed.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("optimizer", [AdamW(lr=1e-3), Sgd(lr=0.01)])
def test_12_steps_of_training_move_every_one_of_6_ranges_and_the_score_is_that_of_the_network_left_behind(
    run_in: MakeRun, tmp_path: Path, optimizer: AdamW | Sgd, labels_objective: MakeObjective
) -> None:
    graph, run = with_learned_steps(small(), weights=True), run_in(tmp_path)
    before = {name: steps.size.detach().clone() for name, steps in learned_of(graph).items()}
    trained = train(graph, objective=labels_objective(), settings=Training(3, 16, optimizer), run=run)
    after = {name: steps.size.detach() for name, steps in learned_of(graph).items()}
    assert len(before) == 6
    assert [name for name in before if torch.equal(before[name], after[name])] == []
    steps_fixed(graph)
    assert validation_score(graph, run=run) == trained.best_score


def test_a_network_that_is_called_twice_on_the_same_batch_has_twice_the_gradient() -> None:
    graph = with_learned_steps(student(), weights=True).train()
    inputs = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    once = [torch.autograd.grad(graph(inputs).sum(), steps.size)[0] for steps in learned_of(graph).values()]
    total = graph(inputs).sum() + graph(inputs).sum()
    twice = torch.autograd.grad(total, [steps.size for steps in learned_of(graph).values()])
    for one, two in zip(once, twice, strict=True):
        torch.testing.assert_close(two, 2 * one, rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.parametrize(("value", "near"), [(0.1, 0.125), (0.07, 0.0625), (0.0, 2.0**-10), (3.0, 1.0)])
def test_a_size_begins_at_1_power_of_two_from_2_to_the_minus_10_to_1(value: float, near: float) -> None:
    assert power_of_two_near(value) == near


def test_a_step_of_adam_at_a_rate_of_0_001_changes_a_range_of_30_and_one_of_0_3_by_the_same_share() -> None:
    shares = []
    for amax in (0.3, 30.0):
        steps = LearnedSteps(activation_quantizer(amax=amax, unsigned=False), start=0.125)
        optimizer = torch.optim.Adam([steps.size], lr=0.001)
        loss: Any = steps(torch.full((1, 4), 2 * amax)).sum()
        loss.backward()
        optimizer.step()
        steps.keep()
        shares.append(float(steps.quantizer._amax) / amax)
    assert shares == pytest.approx([1 - 0.001 / 0.125] * 2, rel=1e-5)  # float32
