"""The text of a recipe for a folder of pictures and networks of the user's own."""

from dataclasses import dataclass
from shlex import quote

from pipeline.commands.named_factory import NamedFactory
from pipeline.commands.picture_survey import Survey

# How long a stage trains, in steps: long enough for a few thousand pictures, short enough for an evening on a CPU.
STEPS_TEACHER, STEPS_DISTILL, STEPS_PRUNE, STEPS_QUANTIZE = 3000, 3000, 2000, 800
EPOCHS_MOST = 40
NORMALISATIONS = {
    3: ("(0.485, 0.456, 0.406)", "(0.229, 0.224, 0.225)", "ImageNet's"),
    1: ("(0.5,)", "(0.25,)", "a guess"),
}


@dataclass(frozen=True)
class Wishes:
    """Everything that a recipe is written from."""

    name: str
    out: str
    data: str
    teacher: NamedFactory
    student: NamedFactory | None
    weights: str | None
    size: tuple[int, int]
    seen: Survey

    @property
    def channels(self) -> int:
        """Colour channels of the pictures: those of the teacher's first convolution."""
        return 1 if self.teacher.channels == 1 else 3

    @property
    def batch(self) -> int:
        """Inputs per step: at least a dozen steps in an epoch, and no fewer than 8 at once for batch norm."""
        return max(8, min(128, 1 << (max(1, self.seen.to_learn_from // 12).bit_length() - 1)))

    def epochs(self, steps: int) -> int:
        """Passes over the training split that come to about this many steps."""
        return max(1, min(EPOCHS_MOST, round(steps * self.batch / self.seen.to_learn_from)))


def recipe_text(wishes: Wishes) -> str:
    """The file, which runs as it stands."""
    return "\n".join([_head(wishes), _imports(wishes), _settings(wishes), _recipe(wishes)])


def command_for(wishes: Wishes) -> str:
    """The command that runs the recipe."""
    place = wishes.out if "/" in wishes.out else f"./{wishes.out}"
    return f"compress --recipe {quote(place)} --data {quote(wishes.data)} --target x86-cpu"


def _head(wishes: Wishes) -> str:
    counts = wishes.seen.counts
    few = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:8])
    rest = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    return f'''"""Recipe {wishes.name}: read it from top to bottom, change what you like, then run

    {command_for(wishes)}
"""

# {wishes.seen.pictures} pictures of {len(counts)} classes: {few}{rest}
'''


def _imports(wishes: Wishes) -> str:
    # One line for each file of the program that the recipe takes something from.
    names = [
        ("pipeline.data.augment", "Augment"),
        ("pipeline.data.image_folder", "ImageFolder"),
        ("pipeline.distillation.logits", "SoftTargets"),
        ("pipeline.recipe", "Recipe"),
        ("pipeline.stages.build", "Build"),
        *([("pipeline.stages.distill", "Distill")] if wishes.student else []),
        ("pipeline.stages.export", "Export"),
        ("pipeline.stages.prune", "Prune"),
        ("pipeline.stages.quantize", "Quantize"),
        ("pipeline.stages.teach", "Network, Teacher" if wishes.student else "Teacher"),
        ("pipeline.training.loop", "Training"),
        ("pipeline.training.optimizers", "AdamW, Sgd"),
        ("targets.budget", "Budget, Limit"),
    ]
    own = [f"from {wishes.teacher.module} import {wishes.teacher.name} as teacher_network"]
    if wishes.student:
        own.append(f"from {wishes.student.module} import {wishes.student.name} as student_network")
    return "\n".join([*sorted(own), *(f"from {module} import {name}" for module, name in names)]) + "\n"


def _settings(wishes: Wishes) -> str:
    mean, std, whose = NORMALISATIONS[wishes.channels]
    shift = max(1, min(wishes.size) // 16)
    short = wishes.seen.resize_short(wishes.size)
    resized = "taken as they are" if short is None else f"short side brought to {short}, then cut from the middle"
    parts = "train/ and test/ as they are" if wishes.seen.given_parts else "dealt into 70 % / 10 % / 20 %"
    return f"""# Pictures of {wishes.size[0]}×{wishes.size[1]}, {resized}; {parts}.
# mean and std are {whose}: they must be those that the teacher was trained with.
DATA = ImageFolder(
    size={wishes.size},
    resize_short={short},
    channels={wishes.channels},
    mean={mean},
    std={std},
)

# Each epoch sees another of eight versions of a picture: shifted by up to {shift} pixels, half of them mirrored.
# flip=False where left and right matter: digits, letters, arrows.
VIEWS = Augment(shift={shift}, flip=True, views=8)

# What the student learns from: nine parts the teacher's softened answers, one part the labels.
TERMS = (SoftTargets(temperature=4.0, weight=0.9),)
"""


def _recipe(wishes: Wishes) -> str:
    batch = wishes.batch
    if wishes.weights is not None:
        teacher = f"    teacher=Teacher(teacher_network, weights={wishes.weights!r}),"
    else:
        teacher = (
            "    # No file of weights: the teacher is trained here, from the labels. With one: "
            'Teacher(teacher_network, weights="FILE").\n'
            "    teacher=Teacher(\n"
            "        teacher_network,\n"
            f"        training=Training(epochs={wishes.epochs(STEPS_TEACHER)}, batch={batch}, optimizer=Sgd(lr=0.05), "
            "augment=VIEWS),\n"
            "    ),"
        )
    distill = (
        f"        Distill(Training(epochs={wishes.epochs(STEPS_DISTILL)}, batch={batch}, optimizer=Sgd(lr=0.05), "
        "augment=VIEWS), terms=TERMS),\n"
        if wishes.student
        else ""
    )
    student = "    student=Network(student_network),\n" if wishes.student else ""
    # A MobileNetV1 trained on ImageNet, cut by a tenth and trained on 146 pictures: 57.5 % at 0.02, 92.5 % at 0.001.
    sgd, adamw, about_rates = "Sgd(lr=0.02)", "AdamW(lr=3e-4)", ""
    if wishes.weights is not None:
        sgd, adamw = "Sgd(lr=0.001)", "AdamW(lr=1e-4)"
        about_rates = "        # Small rates: large ones lose what the published weights know.\n"
    return f"""RECIPE = Recipe(
    name="{wishes.name}",
    summary="{len(wishes.seen.counts)} classes of pictures, teacher {wishes.teacher.name}",
    data=DATA,
{teacher}
{student}    # Epochs suit {wishes.seen.pictures} pictures; `--epochs-scale 0.1` makes a first, quick run of all of it.
    stages=(
{distill}{about_rates}        # keep_macs: share of multiply-accumulates that stays. Less is faster, and less accurate.
        # drop_blocks=1 takes out a whole residual block first, where the network has some.
        Prune(
            Training(epochs={wishes.epochs(STEPS_PRUNE)}, batch={batch}, optimizer={sgd}, augment=VIEWS),
            keep_macs=0.5,
            terms=TERMS,
        ),
        Quantize(
            Training(epochs={wishes.epochs(STEPS_QUANTIZE)}, batch={batch}, optimizer={adamw}, augment=VIEWS),
            terms=TERMS,
        ),
        Export(),
        Build(),
    ),
    # metric=… judges another task: a function (answers (N, K), labels (N,)) → a score in 0..1 for each; default: top1.
    # The flags --max-accuracy-drop, --max-latency-ms … override these; what is not set here, the target sets.
    budget=Budget((Limit("max_accuracy_drop_points", 2.0, "recipe {wishes.name}"),)),
)
"""
