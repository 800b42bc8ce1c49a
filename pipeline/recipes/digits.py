"""Handwritten digits that come with scikit-learn, at 32×32: the recipe that runs anywhere, in a few minutes.

A ResNet-14 is trained on the spot. The student is a ResNet-8 that halves the picture at its first layer: wide layers
on small maps are what integer kernels gain most on (measured: INT8 over float 1.24, and 1.02 for a network of the same
cost on full-size maps). Both have projection shortcuts, so that whole residual streams can be pruned.
"""

from functools import partial

from pipeline.data.augment import Augment
from pipeline.data.sklearn_digits import Digits
from pipeline.distillation.logits import SoftTargets
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.distill import Distill
from pipeline.stages.export import Export
from pipeline.stages.prune import Prune
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Network, Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW, Sgd
from targets.budget import Budget, Limit

SHIFTED = Augment(shift=3, flip=False, views=8)
TERMS = (SoftTargets(temperature=4.0, weight=0.9),)

RECIPE = Recipe(
    name="digits",
    summary="1 797 real handwritten digits (scikit-learn), teacher trained on the spot, about 3 minutes",
    data=Digits(size=32),
    teacher=Teacher(
        partial(ResNetCifar, depth=14, width=32, channels=1, shortcut="B"),
        training=Training(epochs=8, batch=32, optimizer=Sgd(lr=0.1), augment=SHIFTED),
    ),
    student=Network(partial(ResNetCifar, depth=8, width=32, channels=1, shortcut="B", stem_stride=2)),
    stages=(
        Distill(Training(epochs=24, batch=32, optimizer=Sgd(lr=0.1), augment=SHIFTED), terms=TERMS),
        Prune(Training(epochs=20, batch=32, optimizer=Sgd(lr=0.05), augment=SHIFTED), keep_macs=0.5, terms=TERMS),
        Quantize(Training(epochs=8, batch=32, optimizer=AdamW(lr=3e-4), augment=SHIFTED), terms=TERMS),
        Export(),
        Build(),
    ),
    budget=Budget(
        (
            Limit("min_speedup", 8.0, "recipe digits"),
            Limit("max_accuracy_drop_points", 1.0, "recipe digits"),
        )
    ),
)
