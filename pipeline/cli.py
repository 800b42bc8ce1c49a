"""The command `compress`: flags become a plan, the plan is run, the result is printed, the exit code says how it went.

Standard output carries the result, standard error the progress. Environment variables are read here and nowhere else.
"""

import argparse
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.asked import Asked
    from targets.reach.device import Device

from pipeline.arguments import command_parser, flags_from, own_version

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
"""

SHORT_USAGE = """\
usage: compress --target NAME [--recipe NAME|FILE] [--data DIR] [--out DIR] [budgets] [--json]
       compress MODEL.onnx --target NAME --data DIR
       compress targets | recipes | init | verify | run | build | doctor | devices

  compress --target x86-cpu     the built-in recipe on this machine, about three minutes
  compress --help               everything else
"""

COMMANDS = ("targets", "recipes", "init", "verify", "run", "build", "doctor", "devices")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `compress … | head` ends quietly
    # Training threads that wait spin; a shorter spin costs nothing on idle cores and keeps busy ones useful. Read when
    # torch is loaded, so it is set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    from calibration.errors import CalibrationError
    from pipeline.errors import PipelineError
    from pipeline.kept_memory import keep_freed_memory
    from targets.errors import TargetsError

    keep_freed_memory()
    gc.disable()  # until all is loaded; with the freeze below a dry run takes 3.3 s instead of 4.7
    try:
        return _dispatch(arguments)
    except PipelineError as error:
        return _failed(str(error), error.exit_code)
    except (TargetsError, CalibrationError) as error:
        return _failed(str(error), 2)
    except KeyboardInterrupt:
        return _failed("interrupted. Finished stages and the last checkpoint are kept; the same command goes on.", 130)
    except Exception:  # noqa: BLE001 - anything else is our bug (or the recipe's): its traceback, and a code of its own
        sys.stderr.write(traceback.format_exc())
        return _failed("this is a bug of compress, or of the recipe if the last lines above are in its files.", 70)
    finally:
        gc.freeze()  # for a process about to end, sparing it a last look at all that was loaded
        gc.enable()


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"compress: {message}\n")
    return code


def _dispatch(arguments: list[str]) -> int:
    first, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    match first:  # a command imports what it needs and no more
        case "":
            sys.stderr.write(SHORT_USAGE)
            return 2
        case "targets":
            from pipeline.commands.list_targets import list_targets

            return list_targets(rest)
        case "recipes":
            from pipeline.commands.list_recipes import list_recipes

            return list_recipes(rest)
        case "init":
            from pipeline.commands.init_recipe import init_recipe

            return init_recipe(rest)
        case "verify":
            from pipeline.commands.verify_command import verify

            return verify(rest)
        case "run":
            from pipeline.commands.run_command import run

            return run(rest)
        case "build":
            from pipeline.commands.build_command import build

            return build(rest)
        case "doctor":
            from pipeline.commands.doctor import doctor

            return doctor(rest)
        case "devices":
            from pipeline.commands.devices_command import devices

            return devices(rest, config=devices_file())
    if not first.startswith("-") and not first.lower().endswith(".onnx"):
        from pipeline.errors import UsageRefused, nearest

        raise UsageRefused(nearest(first, COMMANDS, kind="command") + " `compress --help` explains them.")
    return _compress(flags_from(parser(), arguments))


def devices_file() -> Path:
    """Where the user's devices have names."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "edge-compress" / "devices.ini"


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


def _compress(flags: argparse.Namespace) -> int:
    from pipeline.asked import asked_from

    asked = asked_from(flags)  # before torch is loaded, which takes seconds
    if asked.device is None:
        return _planned(flags, asked, None)
    from pipeline.reached_device import DEVICES_FILE, reached

    with reached(asked.device, config=Path.home() / DEVICES_FILE) as device:
        return _planned(flags, asked, device)


def _planned(flags: argparse.Namespace, asked: "Asked", device: "Device | None") -> int:
    """Run what was asked for, on the device that was reached, or here."""
    from pipeline.plan import plan_from
    from pipeline.printing import dry_run_text, result_text

    plan = plan_from(asked, device=device)
    if flags.dry_run:
        dry = dry_run_text(plan)
        sys.stdout.write(json.dumps(dry.as_json, indent=1) + "\n" if flags.json else dry.text)
        return 0
    from pipeline.compress import compress
    from pipeline.lock import locked
    from pipeline.progress import Quiet, progress_on
    from pipeline.store import Store
    from pipeline.workers import start_workers
    from targets.reach.local import usable_cores

    devices, hosts = processes(asked.devices)
    leads = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    progress = progress_on(sys.stderr) if leads else Quiet()
    if device is not None:
        from pipeline.reached_device import heard

        device.listener = partial(heard, progress)
    try:
        with locked(plan.out) if leads else nullcontext():
            if plan.fresh and leads:
                Store(plan.work).forget()
            workers = start_workers(devices=devices, hosts=hosts, threads=usable_cores())
            gc.freeze()  # all that is loaded stays: a collection before each measurement then costs ms, not 0.2 s
            gc.enable()
            with workers.together():
                journey = compress(plan, workers=workers, progress=progress)
    finally:
        progress.close()
    if not leads:
        return journey.exit_code
    bundle = str(plan.bundle) if journey.stopped is None else None
    if bundle is None and plan.bundle.exists():
        sys.stderr.write(f"{plan.bundle} is of an earlier run\n")
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
