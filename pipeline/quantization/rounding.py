"""Choose for each weight whether it is rounded up or down, so that its layer's answers change least.

Nagel, Amjad, van Baalen, Louizos & Blankevoort 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization"
(AdaRound), arXiv:2004.10568, sections 3.2 to 3.4.

    minimise over V   mean( (f(W x) − f(W̃ x̂))² ) / e + λ · mean( 1 − |2 h(V) − 1|^β )
    W̃ = s · clip( ⌊W / s⌋ + h(V), lowest, highest ),   h(V) = clip( 1.2 · sigmoid(V) − 0.1, 0, 1 )

Layers are done in the order of the graph: the target f(Wx) is the float network's, the input x̂ comes from the layers
that are rounded already. The second term, absent during the warm start, draws each h to 0 or 1 as β falls (along a half
cosine, as in the authors' code, AIMET; the paper leaves it open). Here differs: the paper sums both terms and does not
divide by e, so that its λ = 0.01 leaves h between 0 and 1 where activations are large; λ here has no unit. The paper
takes 10 000 iterations at a learning rate of 0.001; the defaults are for a CPU. A layer whose answers on the given
inputs are no better than with the nearest rounding keeps the nearest.

The choice is written into the float weight as the grid's own values, which rounding to nearest gives back to the bit.
The largest weight of a channel sets its scale, so it stays, and whatever is rounded up to its level takes its value.

Letters: W weight, s scale per channel, x float input, x̂ quantized input, f the ReLU behind the layer, if any; V free
variables, h how far up a weight is rounded, λ weight of the second term, β its sharpness; e mean squared error with the
nearest rounding; C channels, R rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call

from calibration.observe import evaluating
from calibration.samples import Samples
from pipeline.graph.trace import calls, only_user
from pipeline.quantization.fake_quant import GridPoint, QuantizedWeight
from pipeline.quantization.placement import RELU_CALLS, RELU_LAYERS
from pipeline.quantization.walk import LayerTold, Walk, same_layers, samples_of, weighted_once
from pipeline.training.seeds import seed_for

STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1  # γ and ζ of the paper, equation 23: h reaches 0 and 1 at a finite V
SMALLEST_SCALED_AMAX = 2.0**-24  # below it the quantizer answers 0 for the whole channel

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RoundedLayer:
    """A layer, its mean squared error behind the ReLU over all inputs, and how many of its weights changed level."""

    layer: str
    error_nearest: float
    error: float
    changed: int


@dataclass(frozen=True)
class AdaptiveRounding:
    """Settings. regularizer: λ · warm_start: share of the iterations without it · batch: inputs per iteration"""

    iterations: int = 500
    batch: int = 32
    learning_rate: float = 0.03
    regularizer: float = 10.0
    warm_start: float = 0.2
    beta_first: float = 20.0
    beta_last: float = 2.0

    def __call__(
        self,
        graph: fx.GraphModule,
        *,
        reference: fx.GraphModule,
        inputs: Samples | Tensor,
        seed: int = 0,
        told: LayerTold | None = None,
    ) -> tuple[RoundedLayer, ...]:
        """Round the quantized graph's weights, in place, towards `reference`, the float graph it was made from.

        inputs: some hundred that the network may meet; labels are not needed
        A layer that is called twice keeps its nearest rounding.

        Raises:
            ValueError: the two graphs are not twins, or share weights.
        """
        same_layers(graph, reference)
        samples = samples_of(inputs)
        layers = {name: each for name, each in weighted_once(graph).items() if isinstance(each, QuantizedWeight)}
        results = []
        with evaluating(graph), evaluating(reference):
            quantized_walk, float_walk = Walk(graph, samples), Walk(reference, samples)
            for number, (name, layer) in enumerate(layers.items()):
                if told is not None:
                    told(number, len(layers), name)
                task = _Reconstruction(
                    layer,
                    inputs=_rows(quantized_walk.inputs_of(name), layer),
                    wanted=_rows(float_walk.outputs_of(name), layer),
                    activation=_activation_behind(graph, name),
                )
                results.append(self._rounded(task, name=name, seed=seed_for(seed, "rounding", name)))
        return tuple(results)

    def _rounded(self, task: "_Reconstruction", *, name: str, seed: int) -> RoundedLayer:
        nearest = task.levels.round().clamp(-task.highest, task.highest)
        best, error_nearest = nearest, task.error(nearest)
        error = error_nearest
        if error_nearest > 0:
            chosen = self._chosen(task, unit=error_nearest, seed=seed)
            if (chosen_error := task.error(chosen)) < error_nearest:
                best, error = chosen, chosen_error
        task.write(best)
        return RoundedLayer(name, error_nearest, error, int((best != nearest).sum()))

    @torch.enable_grad()  # whatever the caller has switched off
    def _chosen(self, task: "_Reconstruction", *, unit: float, seed: int) -> Tensor:
        """The integer levels after the minimisation; as many as weights."""
        random = torch.Generator().manual_seed(seed)  # its own: the caller's random state is not touched
        down = task.levels.floor()
        part = (task.levels - down - STRETCH_LOW) / (STRETCH_HIGH - STRETCH_LOW)
        free = part.logit().requires_grad_()  # V with h(V) = W / s − ⌊W / s⌋: it begins as the float weight
        optimizer = torch.optim.Adam([free], lr=self.learning_rate)
        for iteration in range(self.iterations):
            rows = torch.randint(len(task.inputs), (self.batch,), generator=random).to(free.device)
            up = stretched_sigmoid(free) * ~task.held
            levels = (down + up).clamp(-task.highest, task.highest)
            objective = (task.output(levels, task.inputs[rows]) - task.wanted[rows]).square().mean() / unit
            if iteration >= self.warm_start * self.iterations:
                objective = objective + self.regularizer * (1 - (2 * up - 1).abs() ** self.beta_at(iteration)).mean()
            (free.grad,) = torch.autograd.grad(objective, free)  # of V alone: the bias keeps its own
            optimizer.step()
        with torch.no_grad():
            rounded: Tensor = (down + (stretched_sigmoid(free) >= 0.5) * ~task.held).clamp(-task.highest, task.highest)
        return rounded

    def beta_at(self, iteration: int) -> float:
        """β, from the end of the warm start on along a half cosine from the first to the last."""
        begin = self.warm_start * self.iterations
        done = (iteration - begin) / max(self.iterations - begin, 1)
        return self.beta_last + 0.5 * (self.beta_first - self.beta_last) * (1 + math.cos(math.pi * done))


def stretched_sigmoid(free: Tensor) -> Tensor:
    """h(V), between 0 and 1 and equal to them beyond |V| = ln 11 = 2.4."""
    return (free.sigmoid() * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW).clamp(0, 1)


class _Reconstruction:
    """One layer's answers as a function of the integer levels of its weight."""

    def __init__(self, layer: QuantizedWeight, *, inputs: Tensor, wanted: Tensor, activation: Activation) -> None:
        self.layer, self.inputs, self.activation = layer.layer, inputs, activation  # inputs (R, …)
        self.wanted = activation(wanted)  # (R, …)
        self.weight = _weight(layer.layer)
        self.highest = GridPoint(layer.quantizer).highest
        amax = layer.quantizer._amax.detach()
        self.dead = (amax <= SMALLEST_SCALED_AMAX).expand_as(self.weight)
        # In float32 and in this order, as the quantizer computes it: another order would be another bit.
        self.scale = torch.where(amax <= SMALLEST_SCALED_AMAX, torch.ones_like(amax), self.highest / amax)
        self.largest = amax.expand_as(self.weight)
        # What sets a scale stays, and so does a weight that was pruned.
        self.held = (self.weight.abs() >= self.largest) | (self.weight == 0) | self.dead
        exact = self.weight.sign() * self.highest * ~self.dead
        self.levels = torch.where(self.held, exact, self.weight * self.scale)

    def output(self, levels: Tensor, inputs: Tensor) -> Tensor:
        """The layer's answers behind the ReLU."""
        return self.activation(functional_call(self.layer, {"weight": levels / self.scale}, (inputs,)))

    @torch.no_grad()
    def error(self, levels: Tensor) -> float:
        """Mean squared difference from the float network over all inputs."""
        total = torch.zeros((), dtype=torch.float64, device=levels.device)
        for start in range(0, len(self.inputs), 64):
            rows = slice(start, start + 64)
            total += (self.output(levels, self.inputs[rows]) - self.wanted[rows]).double().square().sum()
        return float(total) / self.wanted.numel()

    @torch.no_grad()
    def write(self, levels: Tensor) -> None:
        """Make these levels the nearest ones, with every channel's largest magnitude as it was."""
        values = torch.where(levels.abs() == self.highest, levels.sign() * self.largest, levels / self.scale)
        self.weight.copy_(torch.where(self.dead, self.weight, values))


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()  # the same memory


def _rows(batches: list[Tensor], layer: QuantizedWeight) -> Tensor:
    """All batches in one: inputs (N, C, …), or for a linear layer every vector it is applied to (R, C)."""
    linear = isinstance(layer.layer, nn.Linear)
    return torch.cat([each.flatten(0, -2) if linear else each for each in batches])


def _activation_behind(graph: fx.GraphModule, name: str) -> Activation:
    """The ReLU or ReLU6 that is the only reader of a node, or nothing."""
    after = only_user(next(node for node in graph.graph.nodes if node.name == name))
    if after is None or not calls(graph, after, layers=RELU_LAYERS, functions=RELU_CALLS):
        return lambda output: output
    six = calls(graph, after, layers=(nn.ReLU6,), functions=(F.relu6,))
    return F.relu6 if six else F.relu
