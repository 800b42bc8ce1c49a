"""A quantized network on its way to an engine."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from pipeline.candidate import Candidate
from pipeline.data.dataset import Dataset
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.preparation import Preparation
from pipeline.stage import Run
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize

network = partial(ResNetCifar, 8, width=8, classes=4)


@pytest.fixture
def export_of(
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> Callable[..., tuple[Candidate, Candidate, Run]]:
    """Of an architecture, prepared or not: a float network, the ONNX file of its quantized child, a build's run."""

    def made(
        architecture: Callable[[], nn.Module], preparation: Preparation | None = None
    ) -> tuple[Candidate, Candidate, Run]:
        parent = candidate_in(tmp_path / "teacher", architecture, tiny_data())
        child = Quantize(training=None, preparation=preparation)(parent, run_in(tmp_path / "quantize", teacher=parent))
        return parent, Export(0.0)(child, run_in(tmp_path / "export", teacher=parent)), run_in(tmp_path / "build")

    return made


@pytest.fixture
def exported(
    export_of: Callable[..., tuple[Candidate, Candidate, Run]],
) -> tuple[Candidate, Candidate, Run]:
    """`export_of` a ResNet of three blocks."""
    return export_of(network)
