"""How much of a run is our own doing, and what the training loop costs over a bare PyTorch loop.

python tools/overhead.py run            a whole `compress --target x86-cpu`: the share of its wall time that is neither
                                        training, nor evaluation, nor measuring (goal: under 5 %)
python tools/overhead.py step           time per step of the loop over a bare loop doing the same work, in
                                        alternating epochs (goal: within 5 %)
"""

import argparse
import json
import pkgutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from pipeline.candidate import Candidate, Form
from pipeline.data.augment import Augment
from pipeline.data.sklearn_digits import Digits
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.progress import Quiet
from pipeline.stage import Run
from pipeline.training.batches import Batch, Loader
from pipeline.training.loop import Training, train
from pipeline.training.optimizers import Sgd, learning_rate
from pipeline.workers import start_workers
from targets.accuracy import top1
from targets.devices.null import TARGET
from targets.stopwatch import now_s

# What counts as work: where it is called → what it is.
WORK = {
    "pipeline.stages.teach.train": "training",
    "pipeline.stages.trained_student.train": "training",
    "pipeline.stages.quantize.train": "training",
    "pipeline.distillation.teacher_answers.KeptAnswers._compute": "teacher answers",
    "pipeline.stages.teach.validation_score": "evaluation",
    "pipeline.stages.quantize.validation_score": "evaluation",
    "pipeline.stages.float_layers.validation_score": "evaluation",
    "pipeline.stages.quantize.observe": "calibration",
    "pipeline.measure._measure": "measuring",
    "pipeline.measure.engine_of": "making engines to measure",
    "pipeline.stages.build.timed": "measuring",
    "pipeline.stages.build.with_mixed": "measuring",
    "pipeline.stages.same_answers.Parity.on": "comparing engine and network",
    "pipeline.stages.build.passed_hops": "comparing engine and network",
}

IMPORTING = "starting Python"

# What is counted as everything else, and where it goes.
REST = {
    "pipeline.workers.start_workers": "starting Fabric",
    "pipeline.compress.load_data": "reading the data",
    "pipeline.stages.prune.Prune._cut": "cutting channels",
    "pipeline.stages.prune.Prune._dropped": "choosing blocks",
    "pipeline.stages.quantize.watched": "placing quantizers",
    "pipeline.stages.export.Export.__call__": "stage export",
    "pipeline.stages.build.Build.__call__": "stage build",
    "pipeline.compress.write_bundle": "bundle and report",
}


def main() -> None:
    """Run the part that was asked for and print its figures."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("part", choices=("run", "step", "inside"))
    flags.add_argument("--epochs-scale", default="1")
    flags.add_argument("--rounds", type=int, default=10)
    flags.add_argument("--spent", type=Path)
    flags.add_argument("--began", type=float, help="of the process; the clock is the same in all processes")
    asked = flags.parse_args()
    if asked.part == "run":
        whole_run(asked.epochs_scale)
    elif asked.part == "inside":
        inside(asked.epochs_scale, asked.spent, asked.began)
    else:
        steps(asked.rounds)


def whole_run(epochs_scale: str) -> None:
    """A run in a process of its own, timed from outside; what it spent on work, timed from inside."""
    with tempfile.TemporaryDirectory() as folder:
        spent = Path(folder) / "spent.json"
        start = (
            f"import gc, runpy; gc.disable(); runpy.run_path({__file__!r}, run_name='__main__')"  # as the command does
        )
        command = [sys.executable, "-c", start, "inside", "--epochs-scale", epochs_scale, "--spent", str(spent)]
        began = now_s()
        command += ["--began", str(began)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=folder)
        wall = now_s() - began
        work: dict[str, float] = json.loads(spent.read_text())
    named = {name: work.pop(name) for name in (IMPORTING, *REST.values()) if name in work}
    for name, seconds in sorted(work.items(), key=lambda item: -item[1]):
        print(f"{name:30s} {seconds:8.2f} s  {100 * seconds / wall:5.1f} %")
    rest = wall - sum(work.values())
    print(f"{'everything else':30s} {rest:8.2f} s  {100 * rest / wall:5.1f} %   (goal: under 5 %), of it")
    for name, seconds in sorted(named.items(), key=lambda item: -item[1]):
        print(f"  {name:28s} {seconds:8.2f} s  {100 * seconds / wall:5.1f} %")
    print(f"{'wall':30s} {wall:8.2f} s")


def inside(epochs_scale: str, spent: Path, began: float) -> None:
    """The run itself, with its work timed."""
    from pipeline.cli import main as compress

    for place in (*WORK, *REST):
        pkgutil.resolve_name(place)
    seconds = {IMPORTING: now_s() - began}
    with ExitStack() as stack:
        inner: list[float] = []
        for place, name in (WORK | REST).items():
            stack.enter_context(timed(place, name, seconds, inner))
        compress(["--target", "x86-cpu", "--epochs-scale", epochs_scale, "--out", "out"])
    spent.write_text(json.dumps(seconds))


@contextmanager
def timed(place: str, name: str, seconds: dict[str, float], inner: list[float]) -> Iterator[None]:
    """Add to `seconds[name]` what every call of `place` takes, less the timed calls inside it."""
    original = pkgutil.resolve_name(place)

    def wrapper(*arguments: Any, **keywords: Any) -> Any:
        inner.append(0.0)  # seconds of timed calls within this one
        began = now_s()
        try:
            return original(*arguments, **keywords)
        finally:
            spent = now_s() - began
            seconds[name] = seconds.get(name, 0.0) + spent - inner.pop()
            if inner:
                inner[-1] += spent

    with mock.patch(place, wrapper):
        yield


def steps(rounds: int) -> None:
    """Epochs of our loop and of a bare one in turns; the median step of each, and the median ratio of the pairs."""
    workers = start_workers(devices=1, hosts=1, threads=torch.get_num_threads())
    dataset = Digits()(None, cache=Path(tempfile.mkdtemp()))
    settings = Training(epochs=1, batch=32, optimizer=Sgd(lr=0.05), augment=Augment(shift=3, flip=False, views=4))
    teacher = Candidate("teacher", Form.TORCH, "", Path(), None)
    ours: list[float] = []
    bare: list[float] = []
    for number in range(rounds):
        run = Run(
            TARGET, dataset, teacher, None, None, top1, Path(tempfile.mkdtemp()), str(number), Path(), number, 1, 1.0,
            workers, Quiet(),
        )  # fmt: skip
        loader = Loader(dataset, settings.augment, settings.batch, number)
        pair: list[tuple[list[float], Callable[..., None]]] = [(ours, our_epoch), (bare, bare_epoch)]
        for times, epoch in pair if number % 2 else reversed(pair):
            times.append(statistics.median(step_times(epoch, network(), loader, settings, run)))
    ratios = [mine / plain for mine, plain in zip(ours, bare, strict=True)]
    print(f"our loop   {1000 * statistics.median(ours):7.2f} ms per step")
    print(f"bare loop  {1000 * statistics.median(bare):7.2f} ms per step")
    print(f"ratio      {statistics.median(ratios):7.3f}  (median of {rounds} pairs; goal: at most 1.05)")


def network() -> torch.nn.Module:
    """The student of the recipe `digits`."""
    torch.manual_seed(0)
    return ResNetCifar(8, width=32, channels=1, shortcut="B", stem_stride=2)


def step_times(epoch: Callable[..., None], module: torch.nn.Module, *arguments: Any) -> list[float]:
    """Seconds between the starts of consecutive steps."""
    starts: list[float] = []
    epoch(module, starts, *arguments)
    return [after - before for before, after in pairwise(starts)]


def our_epoch(module: torch.nn.Module, starts: list[float], _loader: Loader, settings: Training, run: Run) -> None:
    """One epoch of `pipeline.training.loop.train`."""

    def objective(wrapped: torch.nn.Module, batch: Batch) -> torch.Tensor:
        starts.append(now_s())
        return torch.nn.functional.cross_entropy(wrapped(batch.inputs), batch.labels)

    train(module, objective=objective, settings=settings, run=run)


def bare_epoch(module: torch.nn.Module, starts: list[float], loader: Loader, settings: Training, _run: Run) -> None:
    """The same batches, network and optimiser in the plainest loop there is."""
    module.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = settings.optimizer(module.parameters())
    for step, batch in enumerate(loader.epoch(0)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=loader.steps, peak=settings.optimizer.lr, warmup=settings.warmup)
        starts.append(now_s())
        loss = torch.nn.functional.cross_entropy(module(batch.inputs), batch.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


if __name__ == "__main__":
    main()
