"""What the quantization of each layer costs: how far the answers move, measured on a calibrated network.

Two questions are asked of each layer, or of neighbours that share a tensor:

    alone quantized   all is float but this layer: how far are the answers off?
    alone float       all is quantized but this layer: how far are they still off?

The first decides which layer goes back to float. The second is what one wants to know in the end, but where two layers
spoil the answers each for itself, neither shows in it: to make one of them float alone helps nothing.

    E = ‖ŷ − y‖² / ‖y − ȳ‖²,   and the mean of the task's metric on the same inputs

A layer in float loses its weight quantizer, and those of its tensors that no integer neighbour wants any more:
placement says which. The tensor between two layers goes only with both, so neighbours are asked about together, too.
Quantizers are switched off in place, and what is computed before the first that changes is computed once for all.

Letters: y answers of the float network (N, …), ȳ their mean over the N inputs, ŷ answers of the one in question.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from calibration.observe import evaluating
from calibration.samples import Samples
from pipeline.graph.trace import layer_of, tensor_inputs, traced
from pipeline.quantization.fake_quant import QuantizedWeight, switched_off
from pipeline.quantization.fold import batch_norm_folded
from pipeline.quantization.insert import FOLDER, point_name
from pipeline.quantization.placement import WEIGHTED, Placement, placement_on
from pipeline.quantization.pool_means import means_pooled

BATCH = 32  # inputs at once
Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]
Told = Callable[[int, int, str], None]  # questions answered, questions in all, what is asked about now


@dataclass(frozen=True)
class Move:
    """Layers that go back to float together, and the quantizers that go with them.

    quantizers: names of sub-modules of the quantized network: layers for their weights, points for tensors
    """

    layers: tuple[str, ...]
    quantizers: frozenset[str]

    @property
    def name(self) -> str:
        """The layers, for a person."""
        return " + ".join(self.layers)


@dataclass(frozen=True, eq=False)
class Exam:
    """Inputs, their labels (N,), and the metric: (outputs, labels) → a score in 0..1 per input."""

    samples: Samples
    labels: np.ndarray
    metric: Metric


@dataclass(frozen=True)
class Standing:
    """How far the answers are from the float network's (E), and the mean score."""

    error: float
    score: float


@dataclass(frozen=True)
class Sensitivity:
    """The answers to both questions about one move."""

    move: Move
    alone_quantized: Standing
    alone_float: Standing


@dataclass(frozen=True)
class Moves:
    """What can go back to float in one network.

    graph: traced and folded, without quantizers · keep_float: what stays float whatever is asked
    """

    graph: fx.GraphModule
    keep_float: tuple[str, ...]
    whole: Placement

    def of(self, layers: Collection[str]) -> Move:
        """These layers, in the order of the network.

        Raises:
            NetworkRefused: no integer layer would be left.
        """
        ordered = tuple(name for name in self.whole.weights if name in layers)
        left = placement_on(self.graph, keep_float=(*self.keep_float, *ordered))
        points = {point_name(each) for each in self.whole.activations if each not in left.activations}
        return Move(ordered, frozenset(points | (set(self.whole.weights) - set(left.weights))))

    def every(self) -> tuple[Move, ...]:
        """Each layer, and each layer with those that read it where their common tensor goes as well."""
        layers = self.whole.weights
        alone = {name: self.of((name,)) for name in layers if len(layers) > 1}
        found = list(alone.values())
        for name, readers in self._readers().items():
            together = {name, *readers} & set(alone)
            if 1 < len(together) < len(layers):
                move = self.of(together)
                if move.quantizers - frozenset[str]().union(*(alone[each].quantizers for each in together)):
                    found.append(move)
        return tuple({move.layers: move for move in found}.values())

    def _readers(self) -> dict[str, set[str]]:
        """Layer → the layers that read what it writes, with nothing between that joins several tensors."""
        found: dict[str, set[str]] = {}
        for node in self.graph.graph.nodes:
            if isinstance(layer_of(self.graph, node), WEIGHTED):
                found.setdefault(str(node.target), set()).update(_reading(self.graph, node))
        return found


def moves_in(module: nn.Module, *, keep_float: Collection[str] = ()) -> Moves:
    """The moves of a float network.

    keep_float: layers that stay float anyway

    Raises:
        NetworkRefused: nothing can be quantized, or there is no layer of a name in `keep_float`.
    """
    graph = means_pooled(batch_norm_folded(traced(module)))
    return Moves(graph, tuple(keep_float), placement_on(graph, keep_float=keep_float))


@dataclass(frozen=True)
class Sensitivities:
    """Every move, and the network itself as it is quantized and in float, on the same inputs."""

    rows: tuple[Sensitivity, ...]
    quantized: Standing
    floating: Standing


def sensitivities(
    student: fx.GraphModule, moves: Sequence[Move], *, exam: Exam, batch: int = BATCH, told: Told | None = None
) -> Sensitivities:
    """Ask both questions about every move.

    student: watched and quantized, with weights and biases that the float network has too
    """
    on = [frozenset[str](), *(move.quantizers for move in moves)]
    every = quantizers_of(student)
    sets = [*on, every, *(every - each for each in on[1:])]
    standings = standings_with(student, sets, exam=exam, batch=batch, told=told)
    rows = [
        Sensitivity(move, standings[1 + number], standings[2 + len(moves) + number])
        for number, move in enumerate(moves)
    ]
    return Sensitivities(tuple(rows), quantized=standings[1 + len(moves)], floating=standings[0])


@torch.no_grad()
def standings_with(
    student: fx.GraphModule,
    sets: Sequence[frozenset[str]],
    *,
    exam: Exam,
    batch: int = BATCH,
    told: Told | None = None,
) -> tuple[Standing, ...]:
    """How the network stands with only the quantizers of each set at work; its float answers are the reference."""
    if not sets:
        return ()
    every = quantizers_of(student)
    few = [number for number, on in enumerate(sets) if len(on) <= len(every) / 2]
    many = [number for number in range(len(sets)) if number not in few]
    tallies = [_Tally() for _ in sets]
    done, total = 0, len(sets) * -(-len(exam.samples) // batch)
    device = next((each.device for each in student.parameters()), torch.device("cpu"))
    references: list[Tensor] = []
    start = 0
    with evaluating(student):
        for inputs in exam.samples.batches(batch):
            labels = exam.labels[start : start + len(inputs)]
            start += len(inputs)
            answers: dict[int, Tensor] = {}
            reference = torch.empty(0)
            for numbers, trunk in ((few, frozenset[str]()), (many, every)):
                if not numbers and trunk:
                    continue
                forks = _Forks(student, trunk, [sets[number] for number in numbers])
                for place, answer in forks.run(inputs.to(device, copy=True)):
                    if place is None:
                        reference = reference if trunk else answer
                        continue
                    answers[numbers[place]] = answer
                    done += 1
                    if told is not None:
                        told(done, total, "sensitivity of the layers")
            references.append(reference)
            for number, answer in answers.items():
                tallies[number].add(answer, reference, labels, exam.metric)
    whole = torch.cat(references).double()
    size = max(float((whole - whole.mean(0)).square().sum()), 1e-12)
    return tuple(Standing(each.squared / size, each.score / start) for each in tallies)


def quantizers_of(student: fx.GraphModule) -> frozenset[str]:
    """Every quantizer of a watched and quantized network, by the names that moves use."""
    return frozenset(
        str(node.target) for node in student.graph.nodes
        if isinstance(layer_of(student, node), QuantizedWeight) or str(node.target).startswith(f"{FOLDER}.")
    )  # fmt: skip


def modules_of(student: fx.GraphModule, names: Collection[str]) -> list[Any]:
    """The quantizers of these names."""
    found = [student.get_submodule(name) for name in sorted(names)]
    return [each.quantizer if isinstance(each, QuantizedWeight) else each for each in found]


def _reading(graph: fx.GraphModule, node: fx.Node) -> set[str]:
    found: set[str] = set()
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        if isinstance(layer_of(graph, user), WEIGHTED):
            found.add(str(user.target))
        elif len(tensor_inputs(user)) == 1:
            waiting.extend(user.users)
    return found


class _Tally:
    """Sums over the batches."""

    def __init__(self) -> None:
        self.squared, self.score = 0.0, 0.0

    def add(self, answers: Tensor, reference: Tensor, labels: np.ndarray, metric: Metric) -> None:
        self.squared += float((answers.double() - reference.double()).square().sum())
        self.score += float(metric(answers.float().cpu().numpy(), labels).sum())


class _Forks:
    """One network run with one set of quantizers at work, and from where they first differ with each other set."""

    def __init__(self, student: fx.GraphModule, trunk: frozenset[str], sets: Sequence[frozenset[str]]) -> None:
        self._every = quantizers_of(student)
        self._student = student
        self._interpreter = fx.Interpreter(student)
        self._nodes = list(student.graph.nodes)
        self._trunk, self._sets = trunk, sets
        places = {str(node.target): place for place, node in reversed(list(enumerate(self._nodes)))}
        self._starts = [min((places[name] for name in trunk ^ each), default=len(self._nodes)) for each in sets]

    def run(self, inputs: Tensor) -> Iterator[tuple[int | None, Tensor]]:
        """(place of the set, its answers), and (None, the trunk's) at the end."""
        values: dict[fx.Node, Any] = {}
        for place, node in enumerate(self._nodes):
            for number, start in enumerate(self._starts):
                if start == place:
                    # Copies: a layer that works in place would change what the trunk still reads.
                    yield number, self._answer(place, _copied(values), self._sets[number], inputs)
            with switched_off(modules_of(self._student, self._every - self._trunk)):
                answer = self._step(node, values, inputs)
        for number, start in enumerate(self._starts):
            if start == len(self._nodes):  # the very set of the trunk
                yield number, answer
        yield None, answer

    def _answer(self, start: int, values: dict[fx.Node, Any], on: frozenset[str], inputs: Tensor) -> Tensor:
        with switched_off(modules_of(self._student, self._every - on)):
            for node in self._nodes[start:]:
                answer = self._step(node, values, inputs)
        return answer

    def _step(self, node: fx.Node, values: dict[fx.Node, Any], inputs: Tensor) -> Tensor:
        self._interpreter.env = values
        value = inputs if node.op == "placeholder" else self._interpreter.run_node(node)
        values[node] = value
        for done in self._interpreter.user_to_last_uses.get(node, []):
            del values[done]
        return value


def _copied(values: Mapping[fx.Node, Any]) -> dict[fx.Node, Any]:
    return {node: copy.deepcopy(value) for node, value in values.items()}
