"""Ours: the road of `compress MODEL.onnx --no-training`, with the same calibration inputs as everybody.

The recipe is that of the command; its data source alone is replaced by one that deals the inputs given: the calibration
inputs are its validation split, which ranges are read from, and the other choosing inputs are train and test.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from int8_peers.task import Found, Quantized, Task, Tried, judged
from pipeline.compress import compress
from pipeline.data.dataset import Dataset, Split
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

    classes: int

    def __call__(self, folder: Path | None, *, cache: Path) -> Dataset:
        """The arrays in `folder`, dealt."""
        assert folder is not None
        inputs = np.load(folder / "choosing.npy")
        labels = np.load(folder / "answers.npy").argmax(1)  # as the command labels them: what the float network says
        calibrated = np.load(folder / "places.npy")  # of the calibration inputs among the choosing ones
        rest = np.setdiff1d(np.arange(len(inputs)), calibrated)

        def split(name: str, places: np.ndarray) -> Split:
            return Split(name, inputs[places], labels[places], places)

        names = tuple(str(label) for label in range(self.classes))
        return Dataset("given", split("train", rest[::2]), split("validation", calibrated), split("test", rest[1::2]),
                       labels=names)  # fmt: skip


def quantized(task: Task) -> Found:
    """The engine handed over; beside it, for comparison, the same integer graph in OpenVINO."""
    recipe = without_training(recipe_from_onnx(task.model))
    plan = Plan(
        recipe=replace(recipe, data=GivenInputs(task.answers.shape[1])), target=target_named("x86-cpu"),
        budget=Budget(), out=task.folder / "run", data=task.model.parent, threads=task.threads,
    )  # fmt: skip
    journey = compress(plan, workers=start_workers(devices=1, hosts=1, threads=task.threads), progress=Quiet())
    seconds = sum(result.seconds for result in journey.results[1:])  # the first is the float network
    engine = journey.last.candidate
    steps = {result.candidate.stage: result for result in journey.results}
    scheme = _words(steps["quantize"].candidate.facts)
    shipped = next((each["name"] for each in engine.facts["rivals"] if each["shipped"]), "int8")
    forms = [_form(task, engine.path, "engine", scheme if shipped == "int8" else "the float engine was faster")]
    built = engine.path.parent
    if shipped != "int8":
        integer = next(path for path in built.glob("engine.*") if path != engine.path)
        forms.append(_form(task, integer, "engine", f"{scheme}; not handed over"))
    forms.append(_form(task, built / "lowered.onnx", "openvino", f"{scheme}; for comparison"))
    accuracy, error = judged(task, engine.path, runtime="engine")
    return Found(tuple(forms), (Tried(scheme, accuracy, error, seconds),))


def _form(task: Task, path: Path, runtime: str, scheme: str) -> Quantized:
    return Quantized(path.relative_to(task.folder).as_posix(), runtime, scheme)


def _words(facts: Any) -> str:
    kept = [step for step, _, better in facts["tried"] if better]
    return f"QDQ U8S8 per channel, {facts['scheme']['weight_bits']}-bit weights, {' → '.join(kept)}"
