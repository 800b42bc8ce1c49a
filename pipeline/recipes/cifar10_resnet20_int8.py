"""CIFAR-10: a pretrained ResNet-20 teaches itself in INT8; nothing is made smaller. What quantization alone costs.

Files looked for below `--data`: `resnet20*.th` and CIFAR-10, as in cifar10_resnet56.py.
"""

from pipeline.candidate import Architecture
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


def quantized_alone(network: Architecture, *, weights: str, called: str, epochs: int) -> Recipe:
    """The recipe of a published network that is brought to INT8 and nothing else; called: as a reader knows it."""
    name = f"cifar10-{called.lower().replace('-', '')}-int8"
    return Recipe(
        name=name,
        summary=f"CIFAR-10, pretrained {called} in INT8, neither distilled into another nor pruned",
        data=Cifar10(),
        teacher=Teacher(network, weights=weights),
        stages=(
            Quantize(
                Training(epochs=epochs, batch=128, optimizer=AdamW(lr=1e-4), augment=VIEWS),
                preparation=Preparation(),
                terms=(SoftTargets(temperature=4.0, weight=1.0),),
                compare_without_teacher=True,
            ),
            Export(),
            Build(),
        ),
        budget=Budget((Limit("max_accuracy_drop_points", 0.2, f"recipe {name}"),)),
    )


RECIPE = quantized_alone(resnet20, weights="resnet20-12fca82f.th", called="ResNet-20", epochs=6)
