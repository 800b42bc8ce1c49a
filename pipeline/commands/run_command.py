"""`compress run`: answer files with the engine of a bundle."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipeline.arguments import command_parser, flags_from

EXAMPLES = """\
examples:
  compress run ./compressed/photos --input cat.jpg
  compress run ./compressed/photos --input *.jpg --top 1 --json
  compress run ./compressed/detector --input street.jpg --save answers.npz      boxes and scores, as they come

The bundle needs nothing of this program: `python BUNDLE/run.py cat.jpg` answers the same.

exit codes: 0 every file was answered, 2 one was not, and a sentence on stderr says why
"""


def run(arguments: Sequence[str]) -> int:
    """Run `compress run`; returns the exit code."""
    parser = command_parser("run", says="Answer pictures (or .npy files) with a bundle's engine.", examples=EXAMPLES)
    # Written by hand: argparse puts BUNDLE last, where --input would take it for one more file.
    parser.usage = "compress run BUNDLE --input FILE [FILE ...] [--top N] [--threads N] [--json] [--save FILE.npz]"
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder of the bundle, or the --out of a run")
    parser.add_argument("--input", metavar="FILE", type=Path, nargs="+", required=True, help="what to answer")
    parser.add_argument("--top", metavar="N", type=positive, default=5, help="classes to name, best first; default: 5")
    parser.add_argument("--threads", metavar="N", type=positive, help="default: those it was measured with")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--save", metavar="FILE.npz", type=Path, help="keep every number of every output")
    flags = flags_from(parser, arguments)
    from pipeline.verify import answer_with_bundle

    return answer_with_bundle(
        flags.bundle, flags.input, top=flags.top, threads=flags.threads, as_json=flags.json, save=flags.save
    )


def positive(text: str) -> int:
    """A whole number from one on."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number
