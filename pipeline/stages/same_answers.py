"""Does an engine answer what the torch network answers that it was made from, and if not, from where on?"""

from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.candidate import Candidate, Form
from pipeline.data.dataset import Split, inputs_for_network, rows_at_once
from pipeline.data.fidelity import sizes_of
from pipeline.graph.compare import Agreement, agreement, agreement_within_rounding, unlike
from pipeline.graph.first_difference import differences, first_notable
from pipeline.graph.parity import hops, unequal_allowed
from pipeline.quantization.fake_quant import exportable, has_quantizers, is_activation_point
from pipeline.quantization.lowering import lowered_for
from pipeline.stage import Run
from pipeline.stages.export import answers_of_onnx
from pipeline.stages.parted_elsewhere import parted_in_words
from pipeline.stages.rivals import MIXED, Rival
from pipeline.stages.same_integers import LAYERWISE, MOST_UNLIKE, Bridge
from targets.engines.elsewhere import Elsewhere
from targets.engines.gpu_forms import on_gpu
from targets.errors import TargetsError
from targets.one_by_one import answers_one_by_one, at_once
from targets.schemes import TENSORRT_FLOAT16

CHECKED_INPUTS = 256  # by every form on the way
EXAMINED = 16  # tensor by tensor, to find a difference
AT_ONCE = 256


@dataclass(frozen=True)
class Parity:
    """Engines against the torch networks they were made from; each is asked once for each split.

    least_equal: the share of answers that must be the same, near ties aside
    """

    run: Run
    least_equal: float
    kept: dict[tuple[str, str, str], NDArray[np.floating[Any]]] = field(default_factory=dict)
    found: dict[tuple[str, Path], Agreement] = field(default_factory=dict)
    layerwise: dict[str, bool] = field(default_factory=dict)

    def on(self, split: Split, rival: Rival) -> Agreement:
        """The engine file against the torch network it came from, one input at a time.

        Where too many answers differ, the integers decide (same_integers.py): an answer that the integer reference
        gives as well is the student's own.
        """
        key = (split.name, rival.path)
        if key not in self.found:
            self.found[key] = self._compared(split, rival)
        return self.found[key]

    def _compared(self, split: Split, rival: Rival) -> Agreement:
        with closing(rival.engine.open(rival.path, threads=self.run.threads)) as runner:
            found = []
            step = at_once(runner, AT_ONCE, shape=self.run.dataset.input_shape)
            for start in range(0, len(split), step):
                inputs = inputs_for_network(self.run.dataset, split.inputs[start : start + step])
                found.append(answers_one_by_one(runner, inputs))
                self.run.progress.advance(start + len(inputs), len(split), "engine against torch")
        answers, exact = np.concatenate(found), self._kept("float64", rival.origin, split)
        sizes = sizes_of(self.run.metric)
        same = agreement(exact, answers, sizes=sizes)
        if self.fails(same) and on_gpu(rival.engine):  # it rounds to half precision, wherever that is faster
            with suppress(TargetsError):  # the processor here need not have every kernel in half precision
                half = in_half_precision(rival, self.run, split)
                same = agreement_within_rounding(exact, answers, single=half, sizes=sizes)
        if not self.fails(same) or not has_quantizers(rival.origin.module()):
            return same
        places = np.flatnonzero(unlike(exact, answers, sizes=sizes))
        if self._right_in_integers(split, places, answers, rival):
            return replace(same, clearly_unequal=0, in_integers=len(places))
        return same

    def rounding(self, split: Split, origin: Candidate) -> float:
        """How far the torch network's answers in float32 are from those in float64; root mean square."""
        exact, single = self._kept("float64", origin, split), self._kept("float32", origin, split)
        return float(np.sqrt(np.square(exact - single).mean()))

    def scores(self, split: Split, origin: Candidate) -> NDArray[np.floating[Any]]:
        """What the metric gives each of the torch network's answers; (N,)."""
        return np.asarray(self.run.metric(self._kept("float64", origin, split), split.labels), np.float64)

    def fails(self, same: Agreement) -> bool:
        """Whether more answers are clearly different than may be; one always may."""
        return same.clearly_unequal > unequal_allowed(same.inputs, least_equal=self.least_equal)

    def _kept(self, precision: str, origin: Candidate, split: Split) -> NDArray[np.floating[Any]]:
        """The torch network's answers, computed once."""
        key = (precision, origin.digest, split.name)
        if key not in self.kept:
            ask = exact_answers if precision == "float64" else torch_answers
            self.kept[key] = ask(origin, self.run, split)
        return self.kept[key]

    def _right_in_integers(self, split: Split, places: NDArray[np.intp], answers: np.ndarray, rival: Rival) -> bool:
        """Whether the integer reference gives all these answers, and layer by layer what torch gives.

        Where float kernels or another runtime round in their own ways, it must give layer by layer what the engine
        gives.
        """
        if len(places) > MOST_UNLIKE:
            return False
        self.run.progress.advance(0, 1, f"{len(places)} answers differ: integers computed again")
        (_, exported), (_, lowered), *_ = rival.files
        bridge = Bridge(rival.origin.module(), exported, lowered)
        inputs = inputs_for_network(self.run.dataset, split.inputs[places])
        if on_gpu(rival.engine):  # its layers one by one would be an engine for each
            return rival.engine is self.run.target.engine and bridge.answers_like(inputs, answers[places])
        if rival.arithmetic == MIXED or rival.engine is not self.run.target.engine:
            alike = bridge.layers_like(
                inputs, answers[places], built_from=rival.files[-1][1], engine=rival.engine
            )  # fmt: skip
        else:
            alike = bridge.answers_like(inputs, answers[places])
        if alike and rival.origin.digest not in self.layerwise:  # of the file, whichever engine is made of it
            some = inputs_for_network(self.run.dataset, split.inputs[:LAYERWISE])
            self.layerwise[rival.origin.digest] = not bridge.layer_that_differs(some)
        return alike and self.layerwise[rival.origin.digest]


def passed_hops(rival: Rival, run: Run) -> list[dict[str, Any]]:
    """Every form on the way to the engine, each against the one before, on validation inputs."""
    split = run.dataset.validation
    split = replace(split, inputs=split.inputs[:CHECKED_INPUTS])
    inputs = inputs_for_network(run.dataset, split.inputs)
    torches = [each for each in reversed(list(rival.origin.ancestry())) if each.form is Form.TORCH]
    answers = [(each.stage, torch_answers(each, run, split)) for each in torches]
    forms = ["fake-quantized torch" if has_quantizers(each.module()) else "torch FP32" for each in torches]
    answers += [(name, answers_of_onnx(file, inputs)) for name, file in rival.files]
    forms += ["ONNX"] * len(rival.files)
    if isinstance(rival.engine, Elsewhere):  # the file that the device builds from, answered here
        forms[-1] = "engine here"
    with closing(rival.engine.open(rival.path, threads=run.threads)) as runner:
        answers.append(("engine", answers_one_by_one(runner, inputs)))
    forms.append("engine on the device" if isinstance(rival.engine, Elsewhere) else "engine here")
    labels = split.labels[: len(inputs)]
    scores = [float(run.metric(each, labels).mean()) for _, each in answers]
    return hops(answers, sizes=sizes_of(run.metric), forms=forms, scores=scores)


def in_half_precision(rival: Rival, run: Run, split: Split) -> NDArray[np.floating[Any]]:
    """What the rival's network answers with all its floats in float16, run here as it is written."""
    with TemporaryDirectory(dir=run.folder) as folder:
        file = Path(folder) / "half.onnx"
        onnx.save(lowered_for(onnx.load(rival.files[0][1]), TENSORRT_FLOAT16), file)
        parts, some = [], rows_at_once(run.dataset.input_shape, most=AT_ONCE)
        for start in range(0, len(split), some):
            inputs = inputs_for_network(run.dataset, split.inputs[start : start + some])
            parts.append(answers_of_onnx(file, inputs).astype(np.float32))
            run.progress.advance(start + len(inputs), len(split), "answers in half precision")
    return np.concatenate(parts)


def where_they_part(candidate: Candidate, run: Run, lowered: onnx.ModelProto, *, engine: Rival | None = None) -> str:
    """ ", first in …" with the first tensor whose codes differ notably; nothing where nothing was quantized."""
    module = torch_origin(candidate).module()
    if not has_quantizers(module):
        return ""
    inputs = inputs_for_network(run.dataset, run.dataset.validation.inputs[:EXAMINED])
    if engine is not None and on_gpu(engine.engine):
        return parted_in_words(engine.files[-1][1], inputs, engine.engine)
    rows = differences(
        exportable(module), is_point=is_activation_point, canonical=onnx.load(candidate.path), lowered=lowered,
        inputs=inputs,
    )  # fmt: skip
    worst = first_notable(rows)
    if worst is None:
        return ""
    share = f"{100 * worst.share:.1f} % of the codes differ, by up to {worst.largest}"
    return f", first in {worst.tensor}, where {share}"


def torch_origin(candidate: Candidate) -> Candidate:
    """The torch network that a file was exported from."""
    return next(ancestor for ancestor in candidate.ancestry() if ancestor.form is Form.TORCH)


def float_parent(candidate: Candidate) -> Candidate | None:
    """The nearest torch ancestor without quantizers; None where there is none, or nothing was quantized."""
    torches = [each for each in candidate.ancestry() if each.form is Form.TORCH]
    if not torches or not has_quantizers(torches[0].module()):
        return None
    return next((each for each in torches if not has_quantizers(each.module())), None)


def exact_answers(candidate: Candidate, run: Run, split: Split) -> NDArray[np.floating[Any]]:
    """`torch_answers` in float64, so that sums are exact and a difference is the engine's, not torch's float32.

    A network that insists on float32 in its own code answers in float32.
    """
    module = exportable(candidate.module()).double()
    try:
        return torch_answers(candidate, run, split, module=module)
    except RuntimeError:
        return torch_answers(candidate, run, split)


def torch_answers(
    candidate: Candidate, run: Run, split: Split, *, module: nn.Module | None = None
) -> NDArray[np.floating[Any]]:
    """What a torch candidate answers to the inputs of a split; (N, …).

    module: the network to ask in its place, in its own precision
    """
    module = module or candidate.module()
    precision = next((each.dtype for each in module.parameters()), torch.float32)
    parts, some = [], rows_at_once(run.dataset.input_shape, most=AT_ONCE)
    with torch.inference_mode():
        for start in range(0, len(split.inputs), some):
            inputs = inputs_for_network(run.dataset, split.inputs[start : start + some])
            parts.append(module(torch.from_numpy(inputs).to(precision)).numpy())
    return np.concatenate(parts)
