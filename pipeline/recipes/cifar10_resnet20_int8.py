"""CIFAR-10: a pretrained ResNet-20 teaches itself in INT8; nothing is made smaller. What quantization alone costs.

Files looked for below `--data`: `resnet20*.th` and CIFAR-10, as in cifar10_resnet56.py.
"""

from pipeline.data.augment import Augment
from pipeline.data.cifar10 import Cifar10
from pipeline.distillation.logits import SoftTargets
from pipeline.models.resnet_cifar import resnet20
from pipeline.quantization.preparation import Preparation
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW
from targets.budget import Budget, Limit

VIEWS = Augment(shift=4, flip=True, views=6, mix=0.5)

RECIPE = Recipe(
    name="cifar10-resnet20-int8",
    summary="CIFAR-10, pretrained ResNet-20 in INT8, neither distilled into another nor pruned",
    data=Cifar10(),
    teacher=Teacher(resnet20, weights="resnet20-12fca82f.th"),
    stages=(
        Quantize(
            Training(epochs=6, batch=128, optimizer=AdamW(lr=1e-4), augment=VIEWS),
            preparation=Preparation(),
            terms=(SoftTargets(temperature=4.0, weight=1.0),),
            compare_without_teacher=True,
        ),
        Export(),
        Build(),
    ),
    budget=Budget((Limit("max_accuracy_drop_points", 0.2, "recipe cifar10-resnet20-int8"),)),
)
