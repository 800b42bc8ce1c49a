"""Fashion-MNIST at 28×28, from the official files: a ResNet-14 trained on the spot teaches a ResNet-8.

Xiao et al. 2017, arXiv:1708.07747.
"""

from functools import partial

from pipeline.data.augment import Augment
from pipeline.data.fashion_mnist_files import FashionMnist
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

VIEWS = Augment(shift=2, flip=True, views=4)
TERMS = (SoftTargets(temperature=4.0, weight=0.9),)

RECIPE = Recipe(
    name="fashion-mnist",
    summary="Fashion-MNIST from its official files, teacher trained on the spot",
    data=FashionMnist(),
    teacher=Teacher(
        partial(ResNetCifar, depth=14, width=16, channels=1, shortcut="B"),
        training=Training(epochs=5, batch=128, optimizer=Sgd(lr=0.1), augment=VIEWS),
    ),
    student=Network(partial(ResNetCifar, depth=8, width=16, channels=1, shortcut="B")),
    stages=(
        Distill(Training(epochs=4, batch=128, optimizer=Sgd(lr=0.1), augment=VIEWS), terms=TERMS),
        Prune(Training(epochs=4, batch=128, optimizer=Sgd(lr=0.05), augment=VIEWS), keep_macs=0.6, terms=TERMS),
        Quantize(Training(epochs=2, batch=128, optimizer=AdamW(lr=3e-4), augment=VIEWS), terms=TERMS),
        Export(),
        Build(),
    ),
    budget=Budget(
        (
            Limit("min_speedup", 3.0, "recipe fashion-mnist"),
            Limit("max_accuracy_drop_points", 2.0, "recipe fashion-mnist"),
        )
    ),
)
