"""Inputs that the command must refuse, one by one: what stands on the disk, and the command that meets it.

tests/cli runs them all and holds each to its own expectation; tools/error_table.py writes what they print into
docs/errors.md.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bad_networks import write_networks, write_unlabelled
from PIL import Image

from pipeline.integrity import MANIFEST, SUMS, digests_of, sums_text
from pipeline.models.convnet import ConvNet

COLOURS = {"blue": (30, 30, 220), "green": (30, 220, 30), "red": (220, 30, 30), "white": (230, 230, 230)}
PAYLOAD = "the-payload-ran"  # a file that the malicious checkpoint would leave
FILE_LIMIT_BYTES = 20_000  # below the 98 kB of the teacher's weights

NETWORKS = """\
from functools import partial

from pipeline.models.convnet import ConvNet

large = partial(ConvNet, width=16, classes=4, channels=3)
small = partial(ConvNet, width=8, classes=4, channels=3)
three_classes = partial(ConvNet, width=16, classes=3, channels=3)
grey = partial(ConvNet, width=16, classes=4, channels=1)
number = 7


def unfinished(width):
    return ConvNet(width=width)


def silent():
    network = large()
    network.linear.weight.data.zero_()
    network.linear.bias.data[0] = 1.0  # always the first class
    return network
"""

RECIPE = """\
from networks import {teacher} as teacher
from pipeline.data.image_folder import ImageFolder
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import Sgd

RECIPE = Recipe(
    name="photos",
    data=ImageFolder(size=(16, 16), resize_short=None),
    teacher=Teacher(teacher, {weights}),
    stages=(Quantize(training=None), Export(), Build()),
)
"""

ARRAYS = """\
import numpy as np

from pipeline.data.dataset import Dataset, Split
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.teach import Teacher
from pipeline.training.loop import Training
from networks import grey


def data(folder, *, cache):
    inputs, labels, places = np.zeros((90, 1, 8, 8), np.float32), np.arange(90) % 4, np.arange(90)
    {damage}
    parts = [Split(n, inputs[i::3], labels[i::3], places[i::3]) for i, n in enumerate(("train", "validation", "test"))]
    return Dataset("arrays", *parts, labels=("a", "b", "c", "d"))


RECIPE = Recipe("arrays", data, Teacher(grey, training=Training(epochs=1)), (Export(), Build()))
"""


class Payload:
    """What a malicious pickle holds: opening it would run a command of its author's."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {PAYLOAD}",)


@dataclass(frozen=True)
class BadInput:
    """title: what is wrong, for the table · arguments: of `compress` · file_limit_bytes: the largest file"""

    title: str
    arguments: str
    file_limit_bytes: int | None = None


def photographs(folder: Path, *, per_class: int = 60, colours: tuple[str, ...] = tuple(COLOURS)) -> None:
    """Noisy pictures of 16×16, one colour per class: a teacher learns them in two epochs."""
    draw = np.random.default_rng(0)
    for name in colours:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            pixels = np.clip(np.array(COLOURS[name]) + draw.normal(0, 30, (16, 16, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02}.png")


def write_world(folder: Path) -> None:
    """Everything that the bad inputs meet, below `folder`."""
    photographs(folder / "photos")
    photographs(folder / "few", per_class=3)
    photographs(folder / "one-colour", per_class=12, colours=("red",))
    (folder / "empty").mkdir()
    (folder / "a-file").write_text("not a folder\n")
    (folder / "networks.py").write_text(NETWORKS)
    write_checkpoints(folder)
    write_damaged_bundle(folder / "damaged")
    (folder / "numbers.json").write_text('{"latency_ms": 1.25}\n')
    write_networks(folder)
    write_unlabelled(folder)
    trained = "training=Training(epochs=2, batch=16, optimizer=Sgd(lr=0.05))"
    untrained = "training=Training(epochs=1, batch=16, optimizer=Sgd(lr=1e-12))"
    recipes = {
        "photos": RECIPE.format(teacher="large", weights=trained),
        "guessing": RECIPE.format(teacher="silent", weights=untrained),
        "three_classes": RECIPE.format(teacher="three_classes", weights=trained),
        "building": RECIPE.format(teacher="unfinished", weights=trained),
        "grey": RECIPE.format(teacher="grey", weights=trained),
        "diverging": RECIPE.format(teacher="large", weights=trained.replace("0.05", "1e30")),
        "syntax": "RECIPE = Recipe(\n    name='photos',\n",
        "nothing": "recipe = 7\n",
        "raising": "import pipeline\n\nWIDTH = 16 / 0\n",
        "importing": "from nowhere import network\n",
        "leaving": "import sys\n\nsys.exit('goodbye')\n",
        "disorder": RECIPE.format(teacher="large", weights=trained).replace("Export(), Build()", "Build(), Export()"),
        "with_nan": ARRAYS.format(damage="inputs[42, 0, 3, 3] = np.nan"),
        "wrong_label": ARRAYS.format(damage="labels[42] = 4"),
    }
    for name in ("cut_short", "wider", "renamed", "malicious"):
        recipes[name] = RECIPE.format(teacher="large", weights=f"weights={f'{name}.pt'!r}")
    recipes["untrained"] = RECIPE.format(teacher="large", weights="weights='whole.pt'")
    recipes["no_weights"] = RECIPE.format(teacher="large", weights="weights='nowhere.pt'")
    for name, text in recipes.items():
        (folder / f"{name}.py").write_text(text)


def write_checkpoints(folder: Path) -> None:
    """Files of weights, each wrong in its own way."""
    torch.manual_seed(0)
    state = ConvNet(width=16, classes=4, channels=3).state_dict()
    torch.save(state, folder / "whole.pt")
    whole = (folder / "whole.pt").read_bytes()
    (folder / "cut_short.pt").write_bytes(whole[: len(whole) // 2])
    torch.save(ConvNet(width=24, classes=4, channels=3).state_dict(), folder / "wider.pt")
    torch.save({name.replace("conv2", "layer2"): tensor for name, tensor in state.items()}, folder / "renamed.pt")
    torch.save({"state_dict": state, "extra": Payload()}, folder / "malicious.pt")


def write_damaged_bundle(folder: Path) -> None:
    """A bundle of five files, whose engine was changed and whose labels were lost."""
    folder.mkdir()
    for name in ("model.onnx", "engine.onnx", "run.py", "labels.json", "examples.npz"):
        (folder / name).write_text(f"{name}\n")
    listed = digests_of(folder)
    engine = {"file": "engine.onnx", "threads": 1}
    beside = {"target": {"name": "null"}, "labels": "labels.json", "examples": "examples.npz"}
    text = json.dumps({"schema": 1, "files": listed, "engine": engine, **beside})
    (folder / MANIFEST).write_text(text)
    (folder / SUMS).write_text(sums_text(listed, manifest=hashlib.sha256(text.encode()).hexdigest()))
    (folder / "engine.onnx").write_text("another\n")
    (folder / "labels.json").unlink()


HERE = "--target null --data photos"
BAD_INPUTS = {
    "no target": BadInput("no target", "--recipe digits"),
    "target": BadInput("a target that does not exist", "--target x86"),
    "command": BadInput("a command that does not exist", "verfy ./bundle"),
    "flag": BadInput("a flag that does not exist", "--target null --epoch-scale 2"),
    "number": BadInput("a flag without its number", "--target null --threads many"),
    "threads": BadInput("no threads", "--target null --threads 0"),
    "devices": BadInput("no processes", "--target null --devices 0"),
    "seed": BadInput("a negative seed", "--target null --seed -1"),
    "epochs": BadInput("epochs scaled by NaN", "--target null --epochs-scale nan"),
    "budget word": BadInput("a budget that is no number", "--target null --max-latency-ms fast"),
    "budget unit": BadInput("a budget in another unit", "--target null --max-latency-ms 5s"),
    "budget sign": BadInput("a negative budget", "--target null --max-accuracy-drop=-1"),
    "budget nan": BadInput("a budget of NaN", "--target null --min-speedup nan"),
    "budget zero": BadInput("a budget that nothing can meet", "--target null --max-size-mb 0"),
    "budget size": BadInput("a size in another unit", "--target null --max-memory-mb 2GB"),
    "target file": BadInput("a target file that fails", "--target ./raising.py"),
    "recipe": BadInput("a recipe that does not exist", "--target null --recipe digit"),
    "recipe file": BadInput("a recipe file that does not exist", "--target null --recipe ./nowhere.py"),
    "syntax": BadInput("a recipe file with a syntax error", f"{HERE} --recipe ./syntax.py"),
    "nothing": BadInput("a recipe file without RECIPE", f"{HERE} --recipe ./nothing.py"),
    "raising": BadInput("a recipe file that raises", f"{HERE} --recipe ./raising.py"),
    "importing": BadInput("a recipe file that imports what is not there", f"{HERE} --recipe ./importing.py"),
    "leaving": BadInput("a recipe file that calls sys.exit", f"{HERE} --recipe ./leaving.py"),
    "disorder": BadInput("a recipe whose stages do not fit", f"{HERE} --recipe ./disorder.py"),
    "data": BadInput("no folder of data", "--target null --recipe ./photos.py --data ./nowhere"),
    "no data": BadInput("a recipe that needs --data, without it", "--target null --recipe ./photos.py"),
    "empty": BadInput("an empty folder of data", "--target null --recipe ./photos.py --data empty"),
    "one class": BadInput("pictures of one class", "--target null --recipe ./photos.py --data one-colour"),
    "files": BadInput("files of a built-in recipe missing", "--target null --recipe fashion-mnist --data photos"),
    "networks": BadInput("data and weights missing", "--target null --recipe cifar10-resnet56 --data photos"),
    "nan": BadInput("NaN in the data", "--target null --recipe ./with_nan.py"),
    "label": BadInput("a label outside of the classes", "--target null --recipe ./wrong_label.py"),
    "no weights": BadInput("a checkpoint that is not there", f"{HERE} --recipe ./no_weights.py"),
    "cut short": BadInput("a checkpoint cut short", f"{HERE} --recipe ./cut_short.py"),
    "wider": BadInput("a checkpoint with other shapes", f"{HERE} --recipe ./wider.py"),
    "renamed": BadInput("a checkpoint with other names", f"{HERE} --recipe ./renamed.py"),
    "malicious": BadInput("a checkpoint that would run a program", f"{HERE} --recipe ./malicious.py"),
    "guessing": BadInput("a teacher that guesses", f"{HERE} --recipe ./guessing.py"),
    "untrained": BadInput("weights that were never trained", f"{HERE} --recipe ./untrained.py"),
    "building": BadInput("a teacher that cannot be built", f"{HERE} --recipe ./building.py"),
    "few": BadInput("too few pictures to judge a teacher", "--target null --recipe ./photos.py --data few"),
    "three classes": BadInput("a teacher with too few answers", f"{HERE} --recipe ./three_classes.py"),
    "grey": BadInput("a teacher for other inputs", f"{HERE} --recipe ./grey.py"),
    "diverging": BadInput("a training that diverges", f"{HERE} --recipe ./diverging.py"),
    "out file": BadInput("a file in the place of --out", f"{HERE} --recipe ./photos.py --out a-file"),
    "out read-only": BadInput("a read-only --out", f"{HERE} --recipe ./photos.py --out /proc/compressed"),
    "out full": BadInput("no room for a file", f"{HERE} --recipe ./photos.py", file_limit_bytes=FILE_LIMIT_BYTES),
    "no bundle": BadInput("a folder that is no bundle", "verify photos"),
    "no bundle file": BadInput("a bundle that is not there", "run ./nowhere --input a.png"),
    "damaged": BadInput("a damaged bundle", "verify damaged"),
    "damaged run": BadInput("a damaged bundle, asked", "run damaged --input photos/red/00.png"),
    "baseline": BadInput("a damaged bundle, to be kept", "baseline update damaged"),
    "baseline none": BadInput("no bundle to be kept", "baseline update"),
    "baseline action": BadInput("what baseline cannot do", "baseline updat damaged"),
    "baseline name": BadInput("a baseline's name that leads elsewhere", "baseline update damaged --name ../main"),
    "baseline numbers": BadInput("numbers in the place of a bundle", "baseline update ./numbers.json"),
    "gate": BadInput("a damaged bundle at the gate", "gate --baseline damaged --candidate damaged"),
    "gate half": BadInput("a gate without a baseline", "gate --candidate damaged"),
    "gate limit": BadInput("a limit of zero", "gate --baseline damaged --candidate damaged --max-regression 0%"),
    "gate share": BadInput("a limit of 200 %", "gate --baseline damaged --candidate damaged --max-regression 2"),
    "gate word": BadInput("a limit of letters", "gate --baseline damaged --candidate damaged --max-regression x"),
    "gate seconds": BadInput("a gate of a second", "gate --baseline damaged --candidate damaged --max-seconds 1"),
    "gate points": BadInput("a drop below zero", "gate --baseline damaged --candidate damaged --max-accuracy-drop=-1"),
    "gate file": BadInput("a report in no folder", "gate --baseline damaged --candidate damaged --junit nowhere/a.xml"),
    "onnx": BadInput("an ONNX file that is not there", "nowhere.onnx --target null --data photos"),
    "onnx empty": BadInput("an empty ONNX file", "nothing.onnx --target null --data photos"),
    "onnx text": BadInput("a text called .onnx", "text.onnx --target null --data photos"),
    "onnx half": BadInput("an ONNX file cut short", "half.onnx --target null --data photos"),
    "onnx alone": BadInput("an ONNX file without its file of weights", "alone.onnx --target null --data photos"),
    "onnx newer": BadInput("an ONNX file of a later operator set", "newer.onnx --target null --data photos"),
    "onnx closed": BadInput("an ONNX file without an input", "closed.onnx --target null --data photos"),
    "onnx pair": BadInput("an ONNX file with two inputs", "pair.onnx --target null --data photos"),
    "onnx open": BadInput("an ONNX file of free height and width", "open.onnx --target null --data photos"),
    "onnx words": BadInput("pictures for an ONNX file of whole numbers", "words.onnx --target null --data photos"),
    "onnx bytes": BadInput("an ONNX file that takes bytes", "bytes.onnx --target null --data photos"),
    "onnx codes": BadInput("an ONNX file that makes bytes of its values", "codes.onnx --target null --data photos"),
    "onnx branch": BadInput("an ONNX file with a branch", "branch.onnx --target null --data photos"),
    "onnx loop": BadInput("an ONNX file with a loop", "loop.onnx --target null --data photos"),
    "onnx own": BadInput("an ONNX file with an operator of its own", "own.onnx --target null --data photos"),
    "onnx integers": BadInput("an ONNX file that is quantized already", "integers.onnx --target null --data photos"),
    "inputs": BadInput("an ONNX file and no inputs", "sound.onnx --target null"),
    "inputs none": BadInput("an empty folder of inputs", "sound.onnx --target null --data empty"),
    "inputs unreadable": BadInput("pictures that none can be read", "sound.onnx --target null --data unreadable"),
    "inputs same": BadInput("five inputs, ten times each", "sound.onnx --target null --data same"),
    "inputs wide": BadInput("arrays of another size", "sound.onnx --target null --data wide"),
    "inputs order": BadInput("arrays with the channels last", "sound.onnx --target null --data last-channels"),
    "inputs letters": BadInput("arrays of letters", "sound.onnx --target null --data letters"),
    "inputs rows": BadInput("an array without rows", "sound.onnx --target null --data no-rows"),
    "inputs nan": BadInput("arrays with NaN", "sound.onnx --target null --data not-numbers"),
    "inputs broken": BadInput("words that are no whole numbers", "texts.onnx --target null --data broken-words"),
    "inputs strange": BadInput("words beyond the network's table", "texts.onnx --target null --data strange-words"),
    "inputs long": BadInput("texts of another length", "texts.onnx --target null --data long-texts"),
    "inputs pickled": BadInput("arrays of Python objects", "sound.onnx --target null --data pickled"),
    "mean alone": BadInput("--mean without --std", "sound.onnx --target null --data photos --mean 0.5"),
    "mean word": BadInput("a mean that is no number", "sound.onnx --target null --data photos --mean a,b --std 1,1"),
    "std zero": BadInput("a deviation of zero", "sound.onnx --target null --data photos --mean 0.5 --std 0"),
    "mean recipe": BadInput("--mean for a recipe", f"{HERE} --recipe ./photos.py --mean 0.5 --std 0.5"),
    "init module": BadInput("a factory that is not there", "init --teacher nowhere:large --data photos"),
    "init name": BadInput("a factory with a slip in its name", "init --teacher networks:larg --data photos"),
    "init number": BadInput("a factory that is a number", "init --teacher networks:number --data photos"),
    "init classes": BadInput("a teacher of other classes", "init --teacher networks:three_classes --data photos"),
    "init size": BadInput("a size that is none", "init --teacher networks:large --data photos --size 16"),
    "init there": BadInput("a file that is there already", "init --teacher networks:large --data . --out photos.py"),
}  # fmt: skip


def arguments_of(name: str) -> tuple[str, ...]:
    """The arguments of the case, with an `--out` of its own: what other commands left in the folder does not matter."""
    arguments = BAD_INPUTS[name].arguments.split()
    if arguments[0] not in ("verify", "run", "baseline", "gate") and "--out" not in arguments:
        arguments += ["--out", f"out-{name.replace(' ', '-')}{'.py' if arguments[0] == 'init' else ''}"]
    return tuple(arguments)
