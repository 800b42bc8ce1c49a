"""`compress gate`: did a change make the engine slower?"""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.arguments import command_parser, flags_from
from pipeline.errors import OnlyNumbers, UsageRefused
from pipeline.gate.gate import Limits
from pipeline.gate.outcome import Gate

EXAMPLES = """\
examples:
  compress gate --baseline baselines/main.json --candidate ./compressed/photos
  compress gate --baseline bundles/v1 --candidate bundles/v2 --max-regression 1% --max-seconds 120
  compress gate --baseline bundles/v1 --candidate bundles/v2 --device ssh://me@orin --lock-clocks --max-seconds 180
  compress gate --baseline bundles/v1 --candidate bundles/v2 --junit gate.xml --markdown gate.md --undecided pass

Both engines are run again, now and here, in turns, in many fresh processes; no stored number is compared. The gate
stops as soon as it knows, at four looks fixed beforehand; a verdict on the latency is made to
be wrong in at most 1 of 100 runs.

exit codes: 0 fine, 1 regressed, 2 wrong usage or bundles that cannot be compared, 3 undecided (see --undecided)
"""


def gate_parser() -> argparse.ArgumentParser:
    """The flags of `compress gate`."""
    parser = command_parser("gate", says="Say whether a change made the engine slower.", examples=EXAMPLES)
    parser.add_argument("--baseline", metavar="BUNDLE", type=Path, help="the bundle before: a folder, or NAME.json of "
                        "`compress baseline`")  # fmt: skip
    parser.add_argument("--candidate", metavar="BUNDLE", type=Path, help="the bundle with the change")
    parser.add_argument("--max-regression", metavar="2%", default="2%", help="how much slower it may be; default: 2%%")
    parser.add_argument("--max-seconds", metavar="S", type=float, default=60.0, help="to measure for; default: 60")
    parser.add_argument("--max-accuracy-drop", metavar="POINTS", type=float, help="on the same evaluation inputs")
    parser.add_argument(
        "--evaluation", metavar="FILE.npz", type=Path,
        help="inputs and labels for it; default: the scores that the bundles hold, where those are of the same data",
    )  # fmt: skip
    for what in ("p99", "load", "memory", "size"):
        parser.add_argument(f"--max-{what}-regression", metavar="10%", help=f"likewise, for {SAID[what]}")
    parser.add_argument(
        "--instructions", action="store_true",
        help="count the instructions of an answer too (hardware counters, else valgrind); at most 0.5%% more",
    )  # fmt: skip
    parser.add_argument("--device", metavar="ADDRESS", help="where both are run: ssh://user@host[:port], or a name of "
                        "`compress devices`; default: this machine")  # fmt: skip
    parser.add_argument("--lock-clocks", action="store_true", help="lock its clocks while measuring, where permitted")
    parser.add_argument("--power-mode", metavar="NAME", help="measure in this power mode, likewise")
    parser.add_argument("--threads", metavar="N", type=int, help="of both; default: those they were made with")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of every order that is drawn")
    parser.add_argument("--junit", metavar="FILE.xml", type=Path, help="write the result as JUnit XML too")
    parser.add_argument("--markdown", metavar="FILE.md", type=Path, help="and as Markdown, with a picture beside it")
    parser.add_argument("--undecided", choices=("pass", "fail"), help="exit with 0 or 1 instead of 3")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


SAID = {"p99": "the p99", "load": "the time to open the engine", "memory": "the peak of memory", "size": "its file"}


def gate(arguments: Sequence[str], *, config: Path, in_github: bool = False) -> int:
    """Run `compress gate`; returns the exit code.

    config: the file of devices · in_github: whether to speak to GitHub's workflow too
    """
    flags = flags_from(gate_parser(), arguments)
    limits = limits_from(flags)
    for name in ("baseline", "candidate"):
        if getattr(flags, name) is None:
            raise UsageRefused(f"--{name} is missing. Give the folder of a bundle.")
    refuse_senseless(flags)
    from pipeline.gate.gate_annotations import annotations
    from pipeline.gate.gate_text import gate_text
    from pipeline.gate.reports import refuse_unwritable, write_reports
    from pipeline.gate.run_gate import only_numbers

    refuse_unwritable(flags.junit, flags.markdown)
    undecided = flags.undecided or "undecided"
    try:
        found = measured(flags, limits, config=config)
    except OnlyNumbers as error:
        found = only_numbers(flags.baseline, flags.candidate, limits, str(error))
    sys.stdout.write(json.dumps(found.as_json(), indent=1, allow_nan=False) + "\n" if flags.json else gate_text(found))
    if in_github:  # the workflow listens to both streams
        sys.stderr.write(annotations(found, undecided=undecided))
    write_reports(found, junit=flags.junit, markdown=flags.markdown, undecided=undecided)
    return found.exit_code(undecided=undecided)


def measured(flags: argparse.Namespace, limits: Limits, *, config: Path) -> Gate:
    """The gate itself, here or on the device that is named."""
    from pipeline.asked import settings_from
    from pipeline.gate.gate_there import heard_once
    from pipeline.gate.pair import pair_from, target_through
    from pipeline.gate.run_gate import Settings, run_gate
    from pipeline.progress import progress_on
    from pipeline.reached_device import reached

    jobs = settings_from(flags)
    settings = Settings(limits, max_seconds=flags.max_seconds, seed=flags.seed, evaluation=flags.evaluation)
    with reached(flags.device, config=config) as device, TemporaryDirectory(prefix="edge-compress-") as folder:
        target = target_through(flags.baseline, flags.candidate, device=device, settings=jobs)
        into = Path(folder)
        pair = pair_from(flags.baseline, flags.candidate, into=into, target=target, threads=flags.threads)
        progress = progress_on(sys.stderr)
        if device is not None:
            device.listener = heard_once(progress)
        try:
            progress.begin("gate")
            return run_gate(pair, settings, progress=progress)
        finally:
            progress.close()


def limits_from(flags: argparse.Namespace) -> Limits:
    """What the candidate may cost more."""
    drop = flags.max_accuracy_drop
    if drop is not None and not (math.isfinite(drop) and drop >= 0):
        raise UsageRefused(f"--max-accuracy-drop {drop:g}: give points of 0 or more, such as 0.5.")
    ratio = {
        what: None if given is None else ratio_from(given, flag=f"--max-{what}-regression")
        for what in SAID
        for given in [getattr(flags, f"max_{what}_regression")]
    }
    instructions: float | None = None
    if flags.instructions:
        from pipeline.gate.instructions_line import LIMIT

        instructions = LIMIT
    return Limits(
        latency=ratio_from(flags.max_regression, flag="--max-regression"), p99=ratio["p99"], load=ratio["load"],
        memory=ratio["memory"], size=ratio["size"], accuracy_points=drop,
        instructions=instructions,
    )  # fmt: skip


def ratio_from(text: str, *, flag: str) -> float:
    """ "2%" or "0.02" → 1.02.

    Raises:
        UsageRefused: it is neither, or leaves no room: times vary, so that two equal engines would never be fine.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(%?)\s*", text)
    if match is None:
        raise UsageRefused(f"{flag} {text}: give a share such as 2% or 0.02.")
    share = float(match[1]) / (100 if match[2] else 1)
    if share == 0 and flag != "--max-size-regression":
        raise UsageRefused(
            f"{flag} {text}: with a limit of zero two equal engines are never certain to be fine. Give what you can "
            "tolerate, such as 1%."
        )
    if not 0 <= share < 10 or (not match[2] and share >= 1):
        raise UsageRefused(f"{flag} {text}: is that a share? Write 2% or 0.02.")
    return 1 + share


def refuse_senseless(flags: argparse.Namespace) -> None:
    """Pass flags that can be followed."""
    if not (math.isfinite(flags.max_seconds) and flags.max_seconds >= 5):
        raise UsageRefused(f"--max-seconds {flags.max_seconds:g}: give at least 5; a verdict takes some ten processes.")
    if flags.threads is not None and flags.threads < 1:
        raise UsageRefused(f"--threads {flags.threads}: give 1 or more.")
    if flags.seed < 0:
        raise UsageRefused(f"--seed {flags.seed}: give 0 or more.")
