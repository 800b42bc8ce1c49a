"""CLINC150: an encoder of four blocks, trained on the spot, teaches one of two narrower blocks, which is quantized.

Larson et al. 2019, arXiv:1909.02027. The folder named with `--data` holds `data_full.json.gz` or `data_full.json`
somewhere below it. Nothing is pruned: the pruning of this project is of convolutions.
"""

from functools import partial

from pipeline.data.clinc150_file import Clinc150
from pipeline.distillation.logits import SoftTargets
from pipeline.models.text_encoder import TextEncoder
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.distill import Distill
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Network, Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW
from targets.budget import Budget, Limit

DATA = Clinc150(words=2500, length=20)
TERMS = (SoftTargets(temperature=2.0, weight=0.9),)
ENCODER = partial(TextEncoder, words=DATA.words, length=DATA.length, classes=150)

RECIPE = Recipe(
    name="clinc150",
    summary="CLINC150, 150 intents: an encoder of 4×192 trained on the spot → 2×128, INT8",
    data=DATA,
    teacher=Teacher(
        partial(ENCODER, depth=4, width=192, dropout=0.2),
        training=Training(epochs=6, batch=64, optimizer=AdamW(lr=1e-3), clip=1.0),
    ),
    student=Network(partial(ENCODER, depth=2, width=128)),
    stages=(
        Distill(Training(epochs=10, batch=64, optimizer=AdamW(lr=2e-3), clip=1.0), terms=TERMS),
        Quantize(Training(epochs=2, batch=64, optimizer=AdamW(lr=3e-4), clip=1.0), terms=TERMS),
        Export(),
        Build(),
    ),
    budget=Budget(
        (
            Limit("min_speedup", 3.0, "recipe clinc150"),
            Limit("max_accuracy_drop_points", 2.0, "recipe clinc150"),
        )
    ),
)
