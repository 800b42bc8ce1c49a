"""CIFAR-10: a pretrained ResNet-56 teaches itself in INT8; nothing is made smaller. What quantization alone costs.

Files looked for below `--data`: `resnet56*.th` and CIFAR-10, as in cifar10_resnet56.py.
"""

from pipeline.data.augment import Augment
from pipeline.data.cifar10 import Cifar10
from pipeline.distillation.logits import SoftTargets
from pipeline.models.resnet_cifar import resnet56
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
    name="cifar10-resnet56-int8",
    summary="CIFAR-10, pretrained ResNet-56 in INT8, neither distilled into another nor pruned",
    data=Cifar10(),
    teacher=Teacher(resnet56, weights="resnet56-4bfd9763.th"),
    stages=(
        Quantize(
            Training(epochs=4, batch=128, optimizer=AdamW(lr=1e-4), augment=VIEWS),
            preparation=Preparation(),
            terms=(SoftTargets(temperature=4.0, weight=1.0),),
        ),
        Export(),
        Build(),
    ),
    budget=Budget((Limit("max_accuracy_drop_points", 0.2, "recipe cifar10-resnet56-int8"),)),
)
