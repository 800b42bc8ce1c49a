"""`compress init`: look at the user's network and pictures, and write a recipe that runs as it stands."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.arguments import command_parser, flags_from
from pipeline.errors import DataMissing, OutRefused, UsageRefused

EXAMPLES = """\
examples:
  compress init --teacher my_package.models:factory --weights teacher.pt --data ./photos
  compress init --teacher my_models:large --student my_models:small --data ./photos --size 96x96

--teacher and --student name a function without arguments that returns the network. --data holds one folder of
pictures for each class, or train/ and test/ with such folders in them. Without --weights the recipe trains the
teacher; without --student the teacher's own architecture is pruned and quantized.
"""


def init_recipe(arguments: Sequence[str]) -> int:
    """Run `compress init`; returns the exit code."""
    parser = command_parser("init", says="Write a recipe for your network and your pictures.", examples=EXAMPLES)
    parser.add_argument("--teacher", metavar="MODULE:FACTORY", required=True, help="builds the trained FP32 network")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="the teacher's weights")
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="the folder of pictures")
    parser.add_argument("--student", metavar="MODULE:FACTORY", help="builds a smaller network to teach")
    parser.add_argument("--size", metavar="HxW", type=size_from_text, help="of the network's input; default: a guess")
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("my_recipe.py"), help="default: my_recipe.py")
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    refuse_places(flags)
    told = written(flags)
    if flags.json:
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
    else:
        sys.stdout.write(init_text(told))
    return 0


def size_from_text(text: str) -> tuple[int, int]:
    """`96x128` → (96, 128), height first."""
    match = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write height x width, for example 224x224")
    return int(match[1]), int(match[2])


def refuse_places(flags: argparse.Namespace) -> None:
    """Pass files and folders that can be used, before anything is imported.

    Raises:
        DataMissing: the pictures or the weights are not there · OutRefused: the file is there already
        UsageRefused: the file is not a Python file, or its folder is not there
    """
    if not flags.data.is_dir():
        raise DataMissing(f"--data {flags.data}: there is no such folder. It holds one folder of pictures per class.")
    if flags.weights is not None and not flags.weights.is_file():
        raise DataMissing(f"--weights {flags.weights}: there is no such file. Leave it out to train the teacher.")
    if flags.out.suffix != ".py":
        raise UsageRefused(f"--out {flags.out}: a recipe is a Python file; give it a name that ends with .py.")
    if not flags.out.parent.is_dir():
        raise UsageRefused(f"--out {flags.out}: there is no folder {flags.out.parent}. Make it first.")
    if flags.out.exists() and not flags.force:
        raise OutRefused(f"{flags.out} is there already and stays as it is. Choose another --out, or add --force.")


def written(flags: argparse.Namespace) -> dict[str, Any]:
    """Look, write the recipe, and say what was seen."""
    from pipeline.commands.named_factory import factory_named
    from pipeline.commands.picture_survey import survey
    from pipeline.commands.recipe_template import Wishes, command_for, recipe_text
    from pipeline.models.checkpoint import load_state, state_from_file
    from pipeline.store import write_bytes

    seen = survey(flags.data)
    teacher = factory_named(flags.teacher, flag="--teacher", folder=flags.out.parent)
    student = factory_named(flags.student, flag="--student", folder=flags.out.parent) if flags.student else None
    if flags.weights is not None:
        load_state(teacher.network, state_from_file(flags.weights), path=flags.weights)
    wishes = Wishes(
        name=flags.out.stem.replace("_", "-"), out=str(flags.out), data=str(flags.data), teacher=teacher,
        student=student, weights=None if flags.weights is None else str(flags.weights), size=flags.size or seen.size,
        seen=seen,
    )  # fmt: skip
    for flag, factory in (("--teacher", teacher), ("--student", student)):
        if factory is not None:
            known = factory.answers(wishes.size, channels=wishes.channels)
            if known != len(seen.counts):
                raise UsageRefused(
                    f"{flag} {factory.module}:{factory.name} tells {known} classes apart, and {flags.data} holds "
                    f"{len(seen.counts)}. Give the network's last layer as many outputs as there are folders."
                )
    write_bytes(flags.out, recipe_text(wishes).encode())
    return {
        "schema": 1, "recipe": str(flags.out), "command": command_for(wishes), "classes": seen.counts,
        "size": list(wishes.size), "channels": wishes.channels, "skipped": list(seen.skipped),
        "teacher": {"factory": flags.teacher, "parameters": teacher.parameters},
        "student": student and {"factory": flags.student, "parameters": student.parameters},
    }  # fmt: skip


def init_text(told: dict[str, Any]) -> str:
    """What was seen and what to do next."""
    counts = told["classes"]
    shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:8])
    lines = [
        f"pictures  {sum(counts.values())} in {len(counts)} classes: {shown}{', …' if len(counts) > 8 else ''}",
        *(f"skipped   {line}" for line in told["skipped"][:5]),
        *([f"skipped   and {len(told['skipped']) - 5} more"] if len(told["skipped"]) > 5 else []),
        f"input     {told['size'][0]}×{told['size'][1]}, {told['channels']} channel(s)",
    ]
    for role in ("teacher", "student"):
        if told[role]:
            lines.append(f"{role:<9} {told[role]['factory']}, {told[role]['parameters']:,} parameters")
    return "\n".join([*lines, "", f"wrote {told['recipe']}. Next:", f"  {told['command']}"]) + "\n"
