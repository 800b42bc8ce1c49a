"""The command `compress`: flags become a plan, the plan is run, the result is printed, the exit code says how it went.

Standard output carries the result, standard error the progress. Environment variables are read here and nowhere else.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

EXIT_CODES = """\
exit codes:
  0    every budget is met
  1    a budget is missed
  2    wrong usage, or input that cannot be used
  3    undecided: what was measured does not settle a budget, and the output says what would
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
  compress verify ./compressed/photos        is the bundle whole, and does its engine still answer the same?
  compress run ./compressed/photos --input cat.jpg

commands:
  targets, recipes, init, verify, run, doctor     `compress COMMAND --help` explains each
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `compress … | head` ends quietly
    from calibration.errors import CalibrationError
    from pipeline.errors import PipelineError
    from targets.errors import TargetsError

    try:
        return _dispatch(arguments)
    except PipelineError as error:
        return _failed(str(error), error.exit_code)
    except (TargetsError, CalibrationError) as error:
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        return _failed("interrupted. Finished stages and the last checkpoint are kept; the same command goes on.", 130)


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"compress: {message}\n")
    return code


def _dispatch(arguments: list[str]) -> int:
    from pipeline import commands

    if arguments and arguments[0] in commands.NAMES:
        return commands.run_command(arguments)
    return _compress(parser().parse_args(arguments))


def parser() -> argparse.ArgumentParser:
    """The flags of the main command."""
    flags = argparse.ArgumentParser(
        prog="compress",
        description="Take a trained FP32 network to an INT8 engine that meets the budgets of a device: "
        "distill, prune, quantize with the teacher, export to ONNX, build; measured after every stage.",
        epilog=EXAMPLES + "\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = flags.add_argument_group("what to do")
    what.add_argument("--target", metavar="NAME", help="the device to compress for; `compress targets` lists them")
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
    limits.add_argument("--max-accuracy-drop", metavar="POINTS", help="against the teacher, on the test split")
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
    how.add_argument("--fresh", action="store_true", help="forget finished stages in --out and start anew")
    how.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    how.add_argument("--json", action="store_true", help="print the result as one JSON object")
    flags.add_argument("--version", action="version", version=f"edge-compress {_version()}")
    return flags


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("edge-compress")
    except PackageNotFoundError:
        return "(not installed)"


def _compress(flags: argparse.Namespace) -> int:
    from pipeline.errors import UsageRefused
    from pipeline.plan import plan_from
    from pipeline.printing import dry_run_text, result_text

    plan = plan_from(flags)
    if flags.dry_run:
        told = dry_run_text(plan)
        sys.stdout.write(json.dumps(told.as_json, indent=1) + "\n" if flags.json else told.text)
        return 0
    from pipeline.compress import compress
    from pipeline.lock import locked
    from pipeline.progress import Quiet, progress_on
    from pipeline.store import Store
    from pipeline.workers import start_workers

    devices, hosts = processes(flags.devices)
    if devices < 1:
        raise UsageRefused(f"--devices {flags.devices}: at least one process is needed.")
    leads = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    progress = progress_on(sys.stderr) if leads else Quiet()
    try:
        with locked(plan.out) if leads else nullcontext():
            if plan.fresh and leads:
                Store(plan.work).forget()
            workers = start_workers(devices=devices, hosts=hosts, threads=os.cpu_count() or 1)
            journey = compress(plan, workers=workers, progress=progress)
    finally:
        progress.close()
    if not leads:
        return journey.exit_code
    bundle = str(plan.bundle) if journey.stopped is None else None
    told = journey.as_json(target=plan.target.name, recipe=plan.recipe.name, seed=plan.seed, bundle=bundle)
    sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n" if flags.json else result_text(journey, bundle))
    return journey.exit_code


def processes(devices: int) -> tuple[int, int]:
    """(processes on this machine, hosts): torchrun's where it started us, else what was asked for on one host."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return devices, 1
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


if __name__ == "__main__":
    sys.exit(main())
