"""`compress verify`: is a bundle whole, and does its engine still answer as it did?"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.arguments import command_parser, flags_from

EXAMPLES = """\
examples:
  compress verify ./compressed/digits-x86-cpu
  compress verify ./compressed/photos --device ssh://me@orin       the engine is asked there, where it was built
  compress verify ./compressed/photos --signers signers            and somebody of this file signed it (`compress sign`)

exit codes:
  0    every file is whole, and the engine gives the stored answers
  1    every file is whole, and the engine gives another best class to some input
  2    no bundle, or a damaged one: every file that is missing or changed is named; or not signed as asked for; or the
       device cannot be reached, or is of another kind
  3    every file is whole, and the engine was built for another machine, or is not built yet; model.onnx was asked
       instead
"""


def verify(arguments: Sequence[str], *, config: Path) -> int:
    """Run `compress verify`; returns the exit code. config: the file of devices"""
    parser = command_parser("verify", says="Check a bundle where it is now.", examples=EXAMPLES)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder of the bundle, or the --out of a run")
    parser.add_argument("--device", metavar="ADDRESS", help="ssh://user@host[:port], or a name of `compress devices`")
    parser.add_argument("--signers", metavar="FILE", type=Path, help="refuse it unless one of these signed it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    from pipeline.reached_device import reached
    from pipeline.verify import verify_bundle

    with reached(flags.device, config=config) as device:
        found = verify_bundle(flags.bundle, device=device, signers=flags.signers)
    if flags.json:
        sys.stdout.write(json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n")
    else:
        lines = (*found.remarks, *found.in_float)
        sys.stdout.write(f"{found.bundle}: {found.summary}\n" + "".join(f"  {each}\n" for each in lines))
    return found.exit_code
