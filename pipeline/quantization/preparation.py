"""Find the best quantized network that needs no training, one step after the other, each kept only if it helps.

    ranges          by several observers: the one with the least error
    equalisation    of consecutive layers (equalize.py), ranges anew
    biases          brought back to the means of the float network (bias_correction.py)
    rounding        up or down, layer by layer (rounding.py), if asked for; biases anew

The error of a step is that of the network's answers over the calibration inputs:

    E = ‖ŷ − y‖² / ‖y − ȳ‖²

Letters: y answers of the float network (N, …), ȳ their mean over the inputs, ŷ answers of the quantized one.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from calibration.observe import Observer, observe_each
from calibration.observers.entropy import Entropy
from calibration.observers.minmax import MinMax
from calibration.observers.mse import MeanSquaredError
from calibration.observers.percentile import Percentile
from calibration.ranges import Ranges
from calibration.samples import Samples
from pipeline.quantization.bias_correction import biases_corrected
from pipeline.quantization.equalize import equalized
from pipeline.quantization.functions_behind import functions_behind
from pipeline.quantization.insert import calibrated, point_name, watched
from pipeline.quantization.placement import Placement
from pipeline.quantization.rounding import AdaptiveRounding
from targets.target import Scheme

Told = Callable[[str], None]
BATCH = 16  # inputs at once: at 224×224, larger batches leave the cache and take gigabytes


@dataclass(frozen=True)
class Preparation:
    """Which steps are tried. observers: names for the record → ways to choose a range"""

    observers: Mapping[str, Observer] = field(
        default_factory=lambda: {
            "mse": MeanSquaredError(), "minmax": MinMax(), "percentile": Percentile(), "entropy": Entropy(),
        }
    )  # fmt: skip
    equalize: bool = True
    correct_biases: bool = True
    rounding: AdaptiveRounding | None = None


@dataclass(frozen=True)
class Prepared:
    """The network found, with the ranges it uses, and every step tried: (step, error, kept).

    float_biases: of the float network that it stands for, by the names of its own state, where its weights are those of
        that network and its biases are not
    """

    student: fx.GraphModule
    placement: Placement
    ranges: Ranges
    tried: tuple[tuple[str, float, bool], ...]
    float_biases: Mapping[str, Tensor] = field(default_factory=dict)


def prepared(
    module: nn.Module,
    samples: Samples,
    *,
    settings: Preparation,
    scheme: Scheme,
    seed: int = 0,
    told: Told | None = None,
) -> Prepared:
    """The best of the steps in `settings`, in the order above."""
    search = _Search(samples, settings, scheme, seed, told or (lambda _step: None))
    graph, placement = watched(module)
    graph.eval()
    search.answers = answers_of(graph, samples)
    search.try_ranges(settings.observers, graph, placement)
    if settings.equalize:
        level = copy.deepcopy(graph)
        if equalized(level):
            best = settings.observers[search.observer]
            search.try_ranges({f"{search.observer}, equalised": best}, level, placement)
    if settings.correct_biases:
        search.try_change("biases corrected", search.correct_biases)
    if settings.rounding is not None:
        search.try_change("rounding chosen", search.round)
        if settings.correct_biases:
            search.try_change("biases corrected again", search.correct_biases)
    assert search.student is not None
    assert search.placement is not None
    assert search.ranges is not None
    kept = [step for step, _, better in search.tried if better]
    corrected = "biases corrected" in kept and "rounding chosen" not in kept
    float_biases = search.float_biases if corrected else {}
    return Prepared(search.student, search.placement, search.ranges, tuple(search.tried), float_biases)


class _Search:
    """The best network so far, and the float network it stands for."""

    def __init__(self, samples: Samples, settings: Preparation, scheme: Scheme, seed: int, told: Told) -> None:
        self.samples, self.settings, self.scheme, self.seed, self.told = samples, settings, scheme, seed, told
        self.answers = torch.empty(0)
        self.student: fx.GraphModule | None = None
        self.reference: fx.GraphModule | None = None
        self.placement: Placement | None = None
        self.ranges: Ranges | None = None
        self.float_biases: dict[str, Tensor] = {}
        self.observer = ""
        self.error = float("inf")
        self.tried: list[tuple[str, float, bool]] = []

    def try_ranges(self, observers: Mapping[str, Observer], graph: fx.GraphModule, placement: Placement) -> None:
        """Calibrate `graph` anew, in one pass for all the observers, and keep each result that is better."""
        self.told(f"calibration: {', '.join(observers)}")
        points = [point_name(producer) for producer in placement.activations]
        seen = observe_each(
            graph, self.samples, points=points, observers=observers, batch=BATCH,
            affine=self.scheme.affine_activations, behind=functions_behind(graph),
        )  # fmt: skip
        for step, ranges in seen.items():
            self.told(f"calibration: {step}")
            student, placed = calibrated(copy.deepcopy(graph), placement, ranges=ranges, scheme=self.scheme)
            if self._keep(step, student.eval()):
                self.reference, self.placement, self.ranges = graph, placed, ranges
                state = student.state_dict()
                self.float_biases = {name: state[name].clone() for name in state if name.endswith("bias")}
                self.observer = step.split(",")[0]

    def try_change(self, step: str, change: Callable[[fx.GraphModule], object]) -> None:
        """Change a copy of the best network and keep it if it is better."""
        self.told(f"calibration: {step}")
        student = copy.deepcopy(self.student)
        assert student is not None
        change(student)
        self._keep(step, student.eval())

    def correct_biases(self, student: fx.GraphModule) -> None:
        """bias_correction.py, towards the float network that the best one was made from."""
        assert self.reference is not None
        biases_corrected(student, reference=self.reference, inputs=self.samples)

    def round(self, student: fx.GraphModule) -> None:
        """rounding.py, likewise."""
        assert self.reference is not None
        assert self.settings.rounding is not None
        self.settings.rounding(student, reference=self.reference, inputs=self.samples, seed=self.seed)

    def _keep(self, step: str, student: fx.GraphModule) -> bool:
        error = float((answers_of(student, self.samples) - self.answers).square().sum())
        error /= max(float((self.answers - self.answers.mean(0)).square().sum()), 1e-12)
        better = error < self.error
        self.tried.append((step, error, better))
        if better:
            self.student, self.error = student, error
        return better


def answers_of(graph: nn.Module, samples: Samples) -> Tensor:
    """The network's answers to all samples."""
    with torch.inference_mode():
        return torch.cat([graph(inputs) for inputs in samples.batches(BATCH)]).clone()
