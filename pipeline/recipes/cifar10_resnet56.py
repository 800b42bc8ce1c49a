"""CIFAR-10: a pretrained ResNet-56 teaches a pretrained ResNet-20, which is pruned and quantized.

He et al. 2016, arXiv:1512.03385, section 4.2. Files looked for below `--data`: `resnet56*.th` and `resnet20*.th` as
published with the "Proper ResNet Implementation for CIFAR10/CIFAR100" (BSD-2), and CIFAR-10 as npz or as its canonical
batches.
"""

from pipeline.data.augment import Augment
from pipeline.data.cifar10 import Cifar10
from pipeline.distillation.logits import SoftTargets
from pipeline.models.resnet_cifar import resnet20, resnet56
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

# 11 000 pictures are few: mixtures of two ask the teacher about more than it was trained on, and so does its whole
# answer (weight 1) against the label alone.
VIEWS = Augment(shift=4, flip=True, views=20, mix=0.5)
TERMS = (SoftTargets(temperature=4.0, weight=1.0),)

RECIPE = Recipe(
    name="cifar10-resnet56",
    summary="CIFAR-10, pretrained ResNet-56 → ResNet-20, pruned, INT8; about half an hour on two cores",
    data=Cifar10(),
    teacher=Teacher(resnet56, weights="resnet56-4bfd9763.th"),
    student=Network(resnet20, weights="resnet20-12fca82f.th"),
    stages=(
        Distill(Training(epochs=6, batch=128, optimizer=Sgd(lr=0.01), augment=VIEWS), terms=TERMS),
        # Two of nine blocks: they save more time than the same share of channels (decision 0008). A small rate, because
        # what the student knows of the pictures that are not here is lost at a large one.
        Prune(
            Training(epochs=20, batch=128, optimizer=Sgd(lr=0.007), augment=VIEWS),
            drop_blocks=2,
            keep_macs=1.0,
            terms=TERMS,
        ),
        Quantize(Training(epochs=5, batch=128, optimizer=AdamW(lr=3e-4), augment=VIEWS), terms=TERMS),
        Export(),
        Build(),
    ),
    budget=Budget(
        (
            Limit("min_speedup", 5.0, "recipe cifar10-resnet56"),
            Limit("max_accuracy_drop_points", 3.0, "recipe cifar10-resnet56"),
        )
    ),
)
