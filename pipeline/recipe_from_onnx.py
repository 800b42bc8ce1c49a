"""The journey of a network that comes as an ONNX file alone: quantize it by calibration, export, build."""

from functools import partial
from pathlib import Path

from pipeline.data.unlabelled import Unlabelled
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.quantization.preparation import Preparation
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher


def recipe_from_onnx(
    model: Path, *, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> Recipe:
    """The recipe for `model`; its own answers are the labels.

    mean, std: of pictures, per channel; None for ImageNet's
    """
    data = Unlabelled(str(model))
    if mean is not None and std is not None:
        data = Unlabelled(str(model), mean=mean, std=std)
    return Recipe(
        name=model.stem,
        summary=f"{model.name}, quantized without training",
        data=data,
        teacher=Teacher(partial(module_from_onnx, model), weights=str(model)),
        stages=(Quantize(training=None, preparation=Preparation()), Export(), Build()),
    )
