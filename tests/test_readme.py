"""Every command in the README is run, or, where that takes an hour or a network, planned in full by `--dry-run`."""

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONG = ("fashion-mnist", "cifar10", "--no-training")
MODELS = """
from torch import nn

def factory():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
"""
# A network that tells bright from dark: both convolutions add up, the last layer compares with a threshold.
WEIGHTS = """
import sys
sys.path.insert(0, ".")
import torch
from my_package.models import factory

network = factory()
for layer, weight, bias in ((network[0], 0.01, 0.05), (network[2], 0.05, 0.0)):
    layer.weight.data.fill_(weight)
    layer.bias.data.fill_(bias)
network[6].weight.data.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 8))
network[6].bias.data.copy_(torch.tensor([-0.12, 0.12]))
torch.save(network.state_dict(), "weights.pth")
"""

ONNX_FILE = """
import onnx
import torch
from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.models.convnet import ConvNet

torch.manual_seed(3)
network = ConvNet(width=8, classes=2, channels=3).eval()
with torch.no_grad():  # the boundary between dark and bright
    answers = network(torch.tensor([-1.0, 1.3]).reshape(2, 1, 1, 1).expand(2, 3, 32, 32))
    network.linear.bias[0] -= (answers[:, 0] - answers[:, 1]).mean()
onnx.save(onnx_from_torch(network, input_shape=(3, 32, 32)), "network.onnx")
"""


def commands_in(text: str) -> list[str]:
    """Every `compress …` of the README, in code spans and blocks; not the two of set-up, of which .ci/run runs one."""
    spans = re.findall(r"`(compress [^`\n]+)`", text)
    blocks = [line.strip() for block in re.findall(r"```\n(.*?)```", text, re.S) for line in block.splitlines()]
    lines = [line.removeprefix("$ ") for line in blocks]
    found = [*spans, *(line for line in lines if line.startswith("compress "))]
    return sorted({command for command in found if "…" not in command})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the things the README speaks of: a package, weights, photographs, a picture and a bundle."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "models.py").write_text(MODELS)
    random = np.random.default_rng(0)
    for label, shade in (("day", 190), ("night", 60)):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(60):
            pixels = np.clip(random.normal(shade, 25, size=(40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number}.png")
    Image.fromarray(np.full((32, 32), 128, np.uint8)).save(folder / "picture.png")
    made = run(ONNX_FILE, cwd=folder, code=True)
    assert made.returncode == 0, made.stderr
    made = run(WEIGHTS, cwd=folder, code=True)
    assert made.returncode == 0, made.stderr
    bundle = run("--target x86-cpu --epochs-scale 0.02 --max-accuracy-drop 100 --out first", cwd=folder)
    assert (folder / "first" / "bundle" / "manifest.json").is_file(), bundle.stderr
    return folder


def run(arguments: str, *, cwd: Path, code: bool = False) -> subprocess.CompletedProcess[str]:
    started = ["-c", arguments] if code else ["-m", "pipeline.cli", *shlex.split(arguments)]
    return subprocess.run([sys.executable, *started], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_each_of_the_10_and_more_commands_of_the_readme_works(world: Path) -> None:
    commands = commands_in(README)
    assert len(commands) >= 10, commands
    order = sorted(commands, key=lambda command: not command.startswith("compress init"))  # it writes what others read
    for command in order:
        arguments = command.removeprefix("compress ").replace("BUNDLE", "first/bundle").replace("DIR", "photos")
        if arguments.startswith("--target") and "--dry-run" not in arguments:
            arguments += " --dry-run" if any(name in command for name in LONG) else ""
            arguments += "" if "--epochs-scale" in arguments else " --epochs-scale 0.02"
        ended = run(arguments, cwd=world)
        if "ssh" in command:  # a device or a key of the reader's: one sentence says that there is none here
            assert ended.returncode == 2, f"{command}\n{ended.stdout}\n{ended.stderr}"
            assert ended.stderr.splitlines()[-1].startswith("compress: "), f"{command}\n{ended.stderr}"
            continue
        assert ended.returncode in (0, 1, 3), f"{command}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr, f"{command}\n{ended.stderr}"


@pytest.mark.slow
def test_the_runner_of_the_bundle_answers_1_picture_as_the_readme_types_it(world: Path) -> None:
    assert "`python bundle/run.py picture.png`" in README
    (world / "first" / "picture.png").write_bytes((world / "picture.png").read_bytes())
    command = [sys.executable, "bundle/run.py", "picture.png"]
    ended = subprocess.run(command, cwd=world / "first", capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 1 + 5  # the file, and five of ten classes


def test_the_2_set_up_commands_are_each_1_line_and_install_this_project() -> None:
    for mark in ("main", "tests"):
        block = re.search(rf"<!-- {mark} -->\n```\n(.*?)\n```", README, re.S)
        assert block is not None
        assert len(block[1].splitlines()) == 1
        assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_the_wheel_holds_the_3_packages_and_nothing_else(tmp_path: Path) -> None:
    # The build back end, called as an installer calls it, but without a network.
    program = f"import setuptools.build_meta as b; print(b.build_wheel({str(tmp_path)!r}))"
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    for name in listed.stdout.split():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    built = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    wheel = next(tmp_path.glob("*.whl"))
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pipeline", "targets", "calibration"}
