"""Two processes with half a batch each train the network that one with the whole batch does, and stop together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

PROGRAM = """
import sys
from pathlib import Path
import numpy as np, torch, torch.nn.functional as F
from torch import nn
from pipeline.candidate import save_weights
from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset, Split
from pipeline.progress import Quiet
from pipeline.stage import Run
from pipeline.training.loop import Training, train
from pipeline.training.optimizers import Sgd
from pipeline.workers import start_workers
from targets.accuracy import top1
from targets.find import target_named

devices, folder = int(sys.argv[1]), Path(sys.argv[2])
workers = start_workers(devices=devices, hosts=1, threads=devices)
random = np.random.default_rng(0)
labels = np.arange(96) % 4
# A mean of 30 deviations: sums of squares lose three of their seven digits unless they are taken around a mean.
inputs = (30 + random.normal(size=(4, 3, 8, 8))[labels] + random.normal(size=(96, 3, 8, 8))).astype(np.float32)
splits = [Split(n, inputs[p], labels[p], np.arange(96)[p])
          for n, p in (("train", slice(0, 64)), ("validation", slice(64, 80)), ("test", slice(80, 96)))]
data = Dataset("noise", *splits, labels=tuple("abcd"))
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False),
                        nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16),
                        nn.BatchNorm1d(16, momentum=None), nn.ReLU(), nn.Linear(16, 4))
run = Run(target=target_named("null"), dataset=data, teacher=None, student=None, student_weights=None, metric=top1,
          folder=folder, digest="d", shared=folder, seed=0, threads=1, epochs_scale=1.0, workers=workers,
          progress=Quiet())
settings = Training(epochs=3, batch=32, optimizer=Sgd(lr=0.05), augment=Augment(shift=1, views=2), clip=5.0)
goes_wrong, calls = sys.argv[3] if workers.rank == 1 else "nothing", []
def objective(module, batch):
    calls.append(batch)
    loss = F.cross_entropy(module(batch.inputs), batch.labels)
    if len(calls) == 2 and goes_wrong == "raise":
        raise KeyError("process 1 alone")
    return loss * float("nan") if len(calls) == 2 and goes_wrong == "nan" else loss
with workers.together():
    train(network, objective=objective, settings=settings, run=run)
assert workers.count == devices
save_weights(network, folder / f"{devices}-{workers.rank}")
"""


def started(folder: Path, *, devices: int, wrong: str = "nothing") -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(program), str(devices), str(folder), wrong],
        env={**os.environ, "MASTER_PORT": free_port()}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_6_steps_of_2_processes_give_the_weights_of_1(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch.distributed is missing from this torch")
    for devices in (1, 2):
        ended = started(tmp_path, devices=devices)
        assert ended.returncode == 0, ended.stderr[-2000:]
    one, lead, other = (safetensors.torch.load_file(tmp_path / name) for name in ("1-0", "2-0", "2-1"))
    assert len(one) == 20
    for name, expected in one.items():
        assert torch.equal(lead[name], other[name]), name
        # Float32 sums in another order: six steps let differences of 1e-7 grow; a batch norm that saw half the batch
        # would be off by 1e-1.
        torch.testing.assert_close(lead[name], expected, rtol=1e-3, atol=1e-4, msg=name)


def test_when_process_1_of_2_stops_the_other_says_so_and_does_not_wait(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch.distributed is missing from this torch")
    ended = started(tmp_path, devices=2, wrong="raise")  # a wait without end would meet the time-out
    assert ended.returncode != 0
    assert "KeyError: 'process 1 alone'" in ended.stderr
    assert "PeerLost: process 0 of 2 has lost another one" in ended.stderr


def test_a_loss_that_is_nan_in_process_1_alone_stops_both_with_the_same_words(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch.distributed is missing from this torch")
    ended = started(tmp_path, devices=2, wrong="nan")
    assert ended.returncode != 0
    assert ended.stderr.count("StageFailed: the training loss is nan after step 2 (epoch 1)") == 2, ended.stderr


RECIPE = """
from functools import partial
from pipeline.data.augment import Augment
from pipeline.data.sklearn_digits import Digits
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.distill import Distill
from pipeline.stages.export import Export
from pipeline.stages.prune import Prune
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Network, Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW, Sgd

VIEWS = Augment(shift=1, flip=False, views=2)
SHORT = Training(epochs=2, batch=32, optimizer=Sgd(lr=0.1), augment=VIEWS)
network = partial(ResNetCifar, 8, width=8, channels=1)
RECIPE = Recipe(
    name="tiny", data=Digits(size=16, train=320, validation=100, test=100),
    teacher=Teacher(network, training=Training(epochs=4, batch=32, optimizer=Sgd(lr=0.1), augment=VIEWS)),
    student=Network(network),
    stages=(Distill(SHORT), Prune(SHORT, keep_macs=0.7),
            Quantize(Training(epochs=1, batch=32, optimizer=AdamW(lr=1e-3), augment=VIEWS)), Export(0.5), Build(0.5)),
)
"""


@pytest.mark.slow
def test_the_command_with_2_devices_leaves_a_bundle_and_torchrun_with_2_hosts_keeps_all_6_rows(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch.distributed is missing from this torch")
    (tmp_path / "recipe.py").write_text(RECIPE)
    limits = ("--max-accuracy-drop", "99", "--min-speedup", "0.001", "--max-latency-ms", "1000")
    flags = ["-m", "pipeline.cli", "--target", "x86-cpu", "--recipe", "./recipe.py", "--out", "out", *limits, "--json"]
    ((stdout, stderr, code),) = ended([[sys.executable, *flags, "--devices", "2"]], cwd=tmp_path)
    assert code == 0, stderr[-3000:]
    rows = json.loads(stdout)["stages"]
    assert [row["name"] for row in rows] == ["teacher", "distill", "prune", "quantize", "export", "build"]
    assert [row["reused"] for row in rows] == [False] * 6
    assert all(row["macs"] for row in rows)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", free_port(), "--node-rank"]
    leader, follower = ended([[*torchrun, rank, *flags] for rank in ("0", "1")], cwd=tmp_path)
    assert (leader[2], follower[2]) == (0, 0), leader[1][-3000:] + follower[1][-3000:]
    assert follower[0] == ""  # one process prints
    assert [row["reused"] for row in json.loads(leader[0])["stages"]] == [True] * 6
    assert (tmp_path / "out" / "bundle" / "manifest.json").is_file()


def ended(commands: list[list[str]], *, cwd: Path) -> list[tuple[str, str, int]]:
    """Standard output, standard error and exit code of commands that run at the same time."""
    environment = {**os.environ, "MASTER_PORT": free_port()}
    running = [
        subprocess.Popen(each, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for each in commands
    ]
    try:
        return [(*process.communicate(timeout=300), process.returncode) for process in running]
    finally:
        for process in running:
            process.kill()


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
