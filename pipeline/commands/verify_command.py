"""`compress verify`: is a bundle whole, and does its engine still answer as it did?"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.arguments import command_parser, flags_from

EXAMPLES = """\
example:
  compress verify ./compressed/digits-x86-cpu

exit codes:
  0    every file is whole, and the engine gives the stored answers
  1    every file is whole, and the engine gives another best class to some input
  2    no bundle, or a damaged one: every file that is missing or changed is named
  3    every file is whole, and the engine was built for another machine; model.onnx was asked instead
"""


def verify(arguments: Sequence[str]) -> int:
    """Run `compress verify`; returns the exit code."""
    parser = command_parser("verify", says="Check a bundle where it is now.", examples=EXAMPLES)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder of the bundle, or the --out of a run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    from pipeline.verify import verify_bundle

    found = verify_bundle(flags.bundle)
    if flags.json:
        sys.stdout.write(json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n")
    else:
        lines = (*found.remarks, *found.in_float)
        sys.stdout.write(f"{found.bundle}: {found.summary}\n" + "".join(f"  {each}\n" for each in lines))
    return found.exit_code
