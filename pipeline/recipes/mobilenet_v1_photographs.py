"""Photographs: a pretrained MobileNetV1 of width 0.25 teaches itself in INT8; no label is used.

Howard et al. 2017, arXiv:1704.04861. Files looked for below `--data`: `mobilenet_v1_x0.25_fp32.safetensors`, and
photographs with `labels.csv` as data/photographs.py describes them.

Depthwise convolutions have nine weights a channel, so that one scale for a whole tensor of activations costs them more
than it costs others: the hard case of quantization. The student learns on less than half of the photographs what the
teacher answers there; labels only tell, on the other half, how good both are.
"""

from pipeline.data.augment import Augment
from pipeline.data.photographs import Photographs
from pipeline.distillation.logits import SoftTargets
from pipeline.models.mobilenet_v1 import mobilenet_v1_025
from pipeline.quantization.preparation import Preparation
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW
from targets.budget import Budget, Limit

VIEWS = Augment(shift=16, flip=True, views=10)

RECIPE = Recipe(
    name="mobilenet-v1-photographs",
    summary="500 photographs, pretrained MobileNetV1-0.25, INT8 by distillation without labels",
    data=Photographs(fractions=(0.4, 0.1, 0.5)),
    teacher=Teacher(mobilenet_v1_025, weights="mobilenet_v1_x0.25_fp32.safetensors"),
    stages=(
        Quantize(
            Training(epochs=10, batch=20, optimizer=AdamW(lr=1e-4), augment=VIEWS),
            preparation=Preparation(),
            terms=(SoftTargets(temperature=2.0, weight=1.0),),
        ),
        Export(),
        Build(),
    ),
    budget=Budget((Limit("max_accuracy_drop_points", 1.0, "recipe mobilenet-v1-photographs"),)),
)
