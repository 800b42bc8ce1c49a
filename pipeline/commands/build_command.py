"""`compress build`: finish a bundle whose engine was not built yet, because no device was given."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.arguments import command_parser, flags_from

EXAMPLES = """\
examples:
  compress build ./compressed/photos --device ssh://me@orin      builds, measures and asks there, now
  python3 build_on_device.py                                     the same, by hand on the device, in the bundle
  compress build ./compressed/photos                             judges what build_on_device.py has left in evidence/

Every digest of the bundle is checked first, with --signers also who signed them. The bundle is replaced by one with the
engine, what was measured, the verdicts and a new report. Its digests are new: a signature goes; make it again. Limits
that the recipe sets for stages before the engine stay undecided: what they limit was never on the device. Run
`compress` with --device for those.

exit codes: 0 every budget is met, 1 one is missed, 2 it cannot be done, 3 undecided
"""


def build(arguments: Sequence[str], *, config: Path) -> int:
    """Run `compress build`; returns the exit code. config: the file of devices"""
    parser = command_parser("build", says="Finish a bundle on the device it is for.", examples=EXAMPLES)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder of the bundle, or the --out of a run")
    parser.add_argument("--device", metavar="ADDRESS", help="ssh://user@host[:port], or a name of `compress devices`")
    parser.add_argument("--lock-clocks", action="store_true", help="lock its clocks while measuring, where permitted")
    parser.add_argument("--power-mode", metavar="NAME", help="measure in this power mode, likewise")
    parser.add_argument("--signers", metavar="FILE", type=Path, help="refuse it unless one of these signed it")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    flags: argparse.Namespace = flags_from(parser, arguments)
    from pipeline.asked import settings_from
    from pipeline.finish_bundle import finish_bundle
    from pipeline.integrity import SIGNATURE, bundle_at, read_manifest
    from pipeline.progress import progress_on
    from pipeline.reached_device import heard, reached
    from pipeline.signing import refuse_unvouched
    from targets.find import target_named

    unfinished = bundle_at(flags.bundle)
    target = target_named(str(read_manifest(unfinished)["target"].get("name")))
    refuse_unvouched(unfinished, signers=flags.signers)
    was_signed = (unfinished / SIGNATURE).is_file()
    progress = progress_on(sys.stderr)
    try:
        with reached(flags.device, config=config) as device:
            if device is not None:
                device.listener = lambda event: heard(progress, event)
                progress.begin("build")
            folder, manifest = finish_bundle(unfinished, target=target, device=device, settings=settings_from(flags))
    finally:
        progress.close()
    if was_signed:
        sys.stderr.write(f"{folder} was signed, and its digests are new: sign it again with `compress sign`.\n")
    if flags.json:
        sys.stdout.write((folder / "result.json").read_text(encoding="utf-8"))
    else:
        sys.stdout.write(words(manifest, folder))
    return int(manifest["exit_code"])


def words(manifest: dict[str, object], folder: Path) -> str:
    """What came of it, a line per engine and limit."""
    told = json.loads(json.dumps(manifest))
    lines = [f"engine: {told['engine']['runtime']}, {told['engine']['integer_ops']} products in integers, "
             f"{told['engine']['float_ops']} in float"]  # fmt: skip
    for rival in told["stages"][-1]["facts"].get("rivals") or ():
        which = "handed over" if rival["shipped"] else f"not handed over: {rival['why_not']}"
        lines.append(f"  {rival['name']}: {rival['p50_ms']:.3f} ms; {which}")
    for verdict in told["verdicts"]:
        lines.append(
            f"{verdict['verdict']}: {verdict['limit']} {verdict['bound']:g} ({verdict['origin']}): {verdict['why']}"
        )
    return "\n".join([*lines, f"bundle: {folder}", f"report: {folder / 'report.html'}"]) + "\n"
