"""The flags of the main command, and what its help says."""

import argparse
from pathlib import Path

from pipeline.arguments import command_parser, own_version

EXIT_CODES = """\
exit codes:
  0    every budget is met
  1    a budget is missed
  2    wrong usage, or input that cannot be used
  3    undecided: what was measured does not settle a budget, and the output says what would
  70   a bug: the traceback says where
  130  interrupted; the same command goes on where it stopped
"""

EXAMPLES = """\
examples:
  compress --target x86-cpu
      the built-in recipe `digits`: trains a teacher on real handwritten digits and hands over an INT8 engine
  compress --target x86-cpu --recipe fashion-mnist --data ~/datasets --max-accuracy-drop 1.5
  compress init --teacher my_package.models:factory --data ./photos
  compress --target x86-cpu --recipe ./my_recipe.py --data ./photos --out ./compressed/photos
      a network and data of your own
  compress model.onnx --data ./photos --target x86-cpu
      an ONNX file and unlabelled pictures: quantized by calibration, without training
  compress verify ./compressed/photos        is the bundle whole, and does its engine still answer the same?
  compress run ./compressed/photos --input cat.jpg

commands (`compress COMMAND --help` explains each):
  targets   the devices there are            init     write a recipe for your network and pictures
  recipes   the built-in recipes             verify   check a bundle
  doctor    what this machine can do         run      answer files with a bundle's engine
  build     finish a bundle on its device    devices  those reached over ssh
  sign      vouch for a bundle               gate     did a change make the engine slower?
  baseline  keep a bundle for later gates
"""


def parser() -> argparse.ArgumentParser:
    """The flags of the main command."""
    flags = command_parser(
        "",
        says="Take a trained FP32 network to an INT8 engine that meets the budgets of a device:\n"
        "distill, prune, quantize with the teacher, export to ONNX, build; measured after every stage.",
        examples=EXAMPLES + "\n" + EXIT_CODES,
    )
    what = flags.add_argument_group("what to do")
    what.add_argument(
        "model", metavar="MODEL.onnx", nargs="?", type=Path,
        help="instead of a recipe: a float network to quantize without training, for inputs like those in --data",
    )  # fmt: skip
    what.add_argument("--target", metavar="NAME", help="the device to compress for; `compress targets` lists them")
    what.add_argument(
        "--device", metavar="ADDRESS",
        help="where the target is: ssh://user@host[:port], or a name of `compress devices`; default: this machine",
    )  # fmt: skip
    what.add_argument(
        "--lock-clocks", action="store_true",
        help="with --device: lock its clocks while measuring, where permitted, and put them back",
    )  # fmt: skip
    what.add_argument("--power-mode", metavar="NAME", help="with --device: measure in this power mode, likewise")
    what.add_argument(
        "--recipe", metavar="NAME|FILE", default="digits",
        help="a built-in recipe (`compress recipes` lists them) or a Python file of yours; default: digits",
    )  # fmt: skip
    what.add_argument(
        "--data", metavar="DIR", type=Path,
        help="where the recipe finds data sets and weights, by name, up to four folders deep",
    )  # fmt: skip
    what.add_argument(
        "--out", metavar="DIR", type=Path,
        help="bundle/ and work/ go here; run again with the same folder to resume; default: compressed/RECIPE-TARGET",
    )  # fmt: skip
    limits = flags.add_argument_group("budgets (they override the recipe's, which override the target's)")
    limits.add_argument("--max-latency-ms", metavar="X", help="p99 of one inference, batch 1")
    limits.add_argument("--min-speedup", metavar="X", help="teacher's p50 over the engine's, in the same runtime")
    limits.add_argument(
        "--max-accuracy-drop", dest="max_accuracy_drop_points", metavar="POINTS",
        help="against the teacher, on the test split",
    )  # fmt: skip
    limits.add_argument("--max-size-mb", metavar="X", help="size of the engine file, in 10^6 bytes")
    limits.add_argument(
        "--max-memory-mb", metavar="X", help="peak memory of a process that runs the engine, in 10^6 bytes"
    )
    how = flags.add_argument_group("how to do it")
    how.add_argument("--seed", metavar="N", type=int, default=0, help="all random numbers follow from it; default: 0")
    how.add_argument(
        "--threads", metavar="N", type=int, default=1,
        help="threads the engine answers with; default: 1 (training uses every core)",
    )  # fmt: skip
    how.add_argument(
        "--devices", metavar="N", type=int, default=1,
        help="processes (GPUs where there are some) that train together; under torchrun its own count holds",
    )  # fmt: skip
    how.add_argument(
        "--epochs-scale", metavar="X", type=float, default=1.0,
        help="lengthens or shortens every training stage; default: 1",
    )  # fmt: skip
    how.add_argument(
        "--no-training", dest="training", action="store_false",
        help="leave out the stages that train, and quantize the teacher by calibration alone",
    )  # fmt: skip
    how.add_argument(
        "--mixed-precision", dest="mixed", action="store_true",
        help="give layers back to float while the calibrated network loses more accuracy than it may; takes minutes",
    )  # fmt: skip
    for name, what_of in (("--mean", "means"), ("--std", "standard deviations")):
        how.add_argument(
            name, metavar="X[,X,X]",
            help=f"with MODEL.onnx: {what_of} of its pictures per channel, of pixels in 0..1; default: ImageNet's",
        )  # fmt: skip
    how.add_argument("--fresh", action="store_true", help="forget finished stages in --out and start anew")
    how.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    how.add_argument(
        "--json", action="store_true",
        help="print the result as one JSON object; `python -m pydoc pipeline.journey` explains its fields",
    )  # fmt: skip
    flags.add_argument("--version", action="version", version=f"edge-compress {own_version()}")
    return flags
