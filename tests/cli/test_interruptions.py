"""A run that is interrupted, killed, started twice or out of room: nothing finished is lost, the result is the same.

All on the null device, which measures nothing, so that the time goes into the training that is interrupted.
"""

import hashlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
import os
import time
from dataclasses import dataclass
from pathlib import Path

from networks import large, small
from pipeline.data.augment import Augment
from pipeline.data.image_folder import ImageFolder
from pipeline.distillation.logits import SoftTargets
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.distill import Distill
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Network, Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW, Sgd

VIEWS = Augment(shift=1, flip=True, views=2)


@dataclass(frozen=True)
class Hold:
    # A loss of zero that waits after the first checkpoint of its stage for as long as there is a file `hold-STAGE`.
    stage: str
    student_taps = ()
    teacher_taps = ()

    def __call__(self, student, teacher, labels):
        hold = f"hold-{self.stage}"
        if os.path.exists(hold) and list(Path("killed/work").glob(f"{self.stage}-*/training.safetensors")):
            while os.path.exists(hold):  # nothing here has a finaliser, in which Python would drop a Ctrl-C
                time.sleep(0.01)
        return 0.0 * student.logits.sum()


RECIPE = Recipe(
    name="long",
    data=ImageFolder(size=(16, 16), resize_short=None),
    teacher=Teacher(large, training=Training(epochs=2, batch=16, optimizer=Sgd(lr=0.05), augment=VIEWS)),
    student=Network(small),
    stages=(
        Distill(
            Training(epochs=6, batch=16, optimizer=Sgd(lr=0.05), augment=VIEWS),
            terms=(SoftTargets(), Hold("distill")),
        ),
        Quantize(
            Training(epochs=6, batch=16, optimizer=AdamW(lr=1e-3), augment=VIEWS),
            terms=(SoftTargets(), Hold("quantize")),
        ),
        Export(),
        Build(),
    ),
)
"""
PATIENCE_S = 120.0
FLAGS = ("--recipe", "./long.py", "--data", "photos", "--target", "null", "--json")


@dataclass(frozen=True)
class Runs:
    """Starts the same command again and again in one folder."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    running: list["subprocess.Popen[str]"]

    def start(self, out: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*self.command, *FLAGS, "--out", out], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=listening,
        )  # fmt: skip
        self.running.append(process)
        return process

    def wait_for_training(self, process: "subprocess.Popen[str]", stage: str) -> None:
        """Return when the first checkpoint of the stage is on the disk; the run holds there."""
        began = time.monotonic()
        while not list((self.folder / "killed" / "work").glob(f"{stage}-*/training.safetensors")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() - began < PATIENCE_S
            time.sleep(0.005)


@pytest.fixture
def runs(world: Path, command_line: list[str], environment: dict[str, str]) -> Iterator[Runs]:
    (world / "long.py").write_text(RECIPE)
    runs = Runs(command_line, environment, world, [])
    yield runs
    for process in runs.running:
        if process.poll() is None:
            process.kill()
            process.wait()


def listening() -> None:
    """Take a Ctrl-C as a terminal's programs do: what a shell starts with & ignores it, and so do its descendants."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Press Ctrl-C, and once more when the first was lost: Python drops an interrupt that meets a finaliser."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=PATIENCE_S / 4)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=PATIENCE_S)


def digests_of_weights(out: Path) -> dict[str, str]:
    """SHA-256 of what every stage left, by the folder's name, which holds the digest of everything it depends on."""
    files = [path for name in ("*.safetensors", "model.onnx") for path in (out / "work").glob(f"*-*/{name}")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_that_was_interrupted_and_then_killed_ends_with_the_weights_of_1_that_was_not(
    runs: Runs, quick: Any, warm: Any, warm_commands: Any
) -> None:
    first_hold, second_hold = (runs.folder / f"hold-{stage}" for stage in ("distill", "quantize"))
    first_hold.touch()
    first = runs.start("killed")
    runs.wait_for_training(first, "distill")

    beside = quick(*FLAGS, "--out", "killed", cwd=runs.folder)  # while the first is at work
    assert (beside.exit_code, beside.stdout) == (2, "")
    assert f"another run (process {first.pid}) is at work in killed" in beside.stderr
    assert "--out" in beside.stderr
    assert "Traceback" not in beside.stderr

    stdout, stderr = interrupted(first)
    assert (first.returncode, stdout) == (130, "")
    assert "interrupted" in stderr.splitlines()[-1]
    assert "the same command goes on" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr
    assert len(list((runs.folder / "killed" / "work").glob("teacher-*/result.json"))) == 1

    first_hold.unlink()
    second_hold.touch()
    second = runs.start("killed")
    runs.wait_for_training(second, "quantize")
    second.kill()
    second.communicate()
    assert second.returncode == -signal.SIGKILL
    assert not (runs.folder / "killed" / "bundle").exists()

    second_hold.unlink()
    third, whole = warm.run(
        [warm_commands.Command((*FLAGS, "--out", out), str(runs.folder)) for out in ("killed", "whole")]
    )
    assert (third.exit_code, whole.exit_code) == (0, 0), third.stderr + whole.stderr
    kept = {stage["name"] for stage in third.told["stages"] if stage["reused"]}
    assert kept == {"teacher", "distill"}
    assert not any(stage["reused"] for stage in whole.told["stages"])
    expected = digests_of_weights(runs.folder / "whole")
    assert len(expected) == 4  # teacher, distill, quantize, export
    assert digests_of_weights(runs.folder / "killed") == expected


# One run, the rest of the disk taken, another run that finds no room, and with room again the first once more.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size=8m none small-disk && "$@" >/dev/null || exit 9
dd if=/dev/zero of=small-disk/ballast bs=1k 2>/dev/null
"$@" --seed 1
code=$?
rm small-disk/ballast
"$@" || exit 9
exit $code
"""


def test_a_full_disk_is_said_in_1_sentence_and_the_4_rows_of_the_run_before_are_kept(
    world: Path, compress: Any
) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("the right to mount is missing (unshare -m): no small disk can be made")
    (world / "small-disk").mkdir(exist_ok=True)
    flags = ("--recipe", "./photos.py", "--data", "photos", "--target", "null", "--out", "small-disk", "--json")
    ended = compress(*flags, cwd=world, before=("unshare", "-m", "sh", "-c", ON_A_SMALL_DISK, "sh"))
    assert ended.exit_code == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    (message,) = [line for line in ended.stderr.splitlines() if line.startswith("compress: ")]
    assert message.startswith("compress: the disk that holds small-disk/work/teacher-")
    assert "is full" in message
    assert "--out" in message
    # The refused run wrote nothing to standard output, so this is one object.
    assert [stage["reused"] for stage in ended.told["stages"]] == [True] * 4
