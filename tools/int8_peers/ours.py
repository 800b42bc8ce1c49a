"""Ours: the road of `compress MODEL.onnx --no-training`, with the same calibration inputs as everybody.

The recipe is that of the command; its data source alone is replaced by one that deals the inputs given: the calibration
inputs are its validation split, which ranges are read from, and the other choosing inputs are train and test.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from int8_peers.opening import NOT_HANDED_OVER, TARGET, engine_of, engine_or_none
from int8_peers.task import Found, Quantized, Task, Tried, judged
from pipeline.compress import compress
from pipeline.data.dataset import Dataset, Split
from pipeline.data.fidelity import fidelity_of
from pipeline.plan import Plan
from pipeline.post_training import without_training
from pipeline.progress import Quiet
from pipeline.recipe_from_onnx import recipe_from_onnx
from pipeline.workers import start_workers
from targets.budget import Budget
from targets.find import target_named

PACKAGES = ("torch", "onnx", "onnxruntime")


@dataclass(frozen=True)
class GivenInputs:
    """The data source of a run over a task's folder."""

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """The arrays in `folder`, dealt."""
        assert folder is not None
        inputs = np.load(folder / "choosing.npy")
        answers, fidelity = np.load(folder / "answers.npy"), fidelity_of(folder / "float.onnx")
        labels, names = answers.argmax(1), tuple(str(label) for label in range(answers.shape[1]))
        if fidelity is not None:  # as the command labels them: with what the float network says
            labels, names = fidelity.labels_from(answers), ()
        calibrated = np.load(folder / "places.npy")  # of the calibration inputs among the choosing ones
        rest = np.setdiff1d(np.arange(len(inputs)), calibrated)

        def split(name: str, places: np.ndarray) -> Split:
            return Split(name, inputs[places], labels[places], places)

        return Dataset("given", split("train", rest[::2]), split("validation", calibrated), split("test", rest[1::2]),
                       labels=names)  # fmt: skip


def quantized(task: Task) -> Found:
    """The engine handed over, first; beside it those that were built and not handed over."""
    recipe = without_training(recipe_from_onnx(task.model))
    plan = Plan(
        recipe=replace(recipe, data=GivenInputs()), target=target_named(TARGET),
        budget=Budget(), out=task.folder / "run", data=task.model.parent, threads=task.threads,
    )  # fmt: skip
    journey = compress(plan, workers=start_workers(devices=1, hosts=1, threads=task.threads), progress=Quiet())
    seconds = sum(result.seconds for result in journey.results[1:])  # the first is the float network
    shipped = journey.last.candidate.path
    scheme = _words(next(result for result in journey.results if result.candidate.stage == "quantize").candidate.facts)
    files = sorted(shipped.parent.iterdir(), key=lambda path: (path != shipped, path.name))
    forms = [_form(path, scheme, shipped=shipped, below=task.folder) for path in files if engine_or_none(path)]
    accuracy, error = judged(task, shipped, runtime="engine")
    return Found(tuple(forms), (Tried(forms[0].scheme, accuracy, error, seconds),))


def _form(path: Path, scheme: str, *, shipped: Path, below: Path) -> Quantized:
    words = f"{engine_of(path).name}, {'float' if path.name.startswith('float') else scheme}"
    return Quantized(
        path.relative_to(below).as_posix(), "engine", words if path == shipped else f"{words}; {NOT_HANDED_OVER}"
    )


def _words(facts: Any) -> str:
    kept = [step for step, _, better in facts["tried"] if better]
    return f"QDQ U8S8 per channel, {weights_in_words(facts['scheme'])}, {' → '.join(kept)}"


def weights_in_words(scheme: dict[str, Any]) -> str:
    """How many bits weights have, and what bounds them."""
    bits = f"{scheme['weight_bits']}-bit weights"
    return f"{bits}, neighbours up to 128" if scheme.get("sums_in_16_bits") else bits
