"""The journey of a network that comes as an ONNX file alone: quantize it by calibration, export, build."""

from functools import partial
from pathlib import Path

import onnx

from pipeline.data.fidelity import fidelity_of
from pipeline.data.unlabelled import Unlabelled
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.graph.separate_outputs import doors_of
from pipeline.quantization.preparation import Preparation
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher
from targets.accuracy import top1
from targets.budget import Budget, Limit

# Of the fidelity, where the target's limit is meant for accuracy: values move long before what is read from them does.
LIMIT = Limit("max_accuracy_drop_points", 10.0, "default for fidelity")


def recipe_from_onnx(
    model: Path, *, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> Recipe:
    """The recipe for `model`; the classes that it names are the labels, or where it names none its answers themselves.

    mean, std: of pictures, per channel; None for ImageNet's

    Raises:
        NetworkRefused: the file cannot be used. No engine has seen it then, which would say so in its own words.
    """
    module_from_onnx(model)
    doors = doors_of(onnx.load(model, load_external_data=False))
    fidelity = fidelity_of(model)
    data = Unlabelled(str(model), fidelity=fidelity)
    if mean is not None and std is not None:
        data = Unlabelled(str(model), mean=mean, std=std, fidelity=fidelity)
    return Recipe(
        name=model.stem,
        summary=f"{model.name}, quantized without training",
        data=data,
        teacher=Teacher(partial(module_from_onnx, model), weights=str(model)),
        stages=(
            Quantize(training=None, preparation=Preparation()),
            Export(doors=doors),
            Build(),
        ),
        metric=fidelity or top1,
        budget=Budget() if fidelity is None else Budget((LIMIT,)),
    )
