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

from pipeline.arguments import flags_from
from pipeline.main_flags import parser

if TYPE_CHECKING:
    from pipeline.asked import Asked
    from targets.reach.device import Device

SHORT_USAGE = """\
usage: compress --target NAME [--recipe NAME|FILE] [--data DIR] [--out DIR] [budgets] [--json]
       compress MODEL.onnx --target NAME --data DIR
       compress targets | recipes | init | verify | run | build | gate | baseline | sign | doctor | devices

  compress --target x86-cpu     the built-in recipe on this machine, about three minutes
  compress --help               everything else
"""

COMMANDS = ("targets", "recipes", "init", "verify", "run", "build", "gate", "baseline", "sign", "doctor", "devices")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `compress … | head` ends quietly
    # Training threads that wait spin; a shorter spin costs nothing on idle cores and keeps busy ones useful. Read when
    # torch is loaded, so it is set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # ONNX Runtime from 1.31 on starts a thread for telemetry when it is loaded, and nobody here asked for one.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
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
        kept = "Finished stages and the last checkpoint are kept; the same command goes on."
        return _failed(f"interrupted. {'A gate keeps nothing: run it again.' if arguments[0] == 'gate' else kept}", 130)
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

            return verify(rest, config=devices_file())
        case "run":
            from pipeline.commands.run_command import run

            return run(rest)
        case "build":
            from pipeline.commands.build_command import build

            return build(rest, config=devices_file())
        case "gate":
            from pipeline.commands.gate_command import gate

            return gate(rest, config=devices_file(), in_github=os.environ.get("GITHUB_ACTIONS") == "true")
        case "sign":
            from pipeline.commands.sign_command import sign

            return sign(rest)
        case "baseline":
            from pipeline.commands.baseline_command import baseline

            return baseline(rest)
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


def _compress(flags: argparse.Namespace) -> int:
    from pipeline.asked import asked_from

    asked = asked_from(flags)  # before torch is loaded, which takes seconds
    if asked.device is None:
        return _planned(flags, asked, None)
    from pipeline.reached_device import reached

    with reached(asked.device, config=devices_file()) as device:
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
