"""An ONNX file and inputs without labels: quantized without training. What cannot be used: test_refusals.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.graph.separate_outputs import doors_named, doors_of
from pipeline.models.convnet import ConvNet
from targets.reach.local import is_x86

SIDE = 24


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """network.onnx, which tells dark from bright; 60 pictures in `photos`; the same as `inputs` in one array."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(3)
    network = ConvNet(width=8, classes=2, channels=3).eval()
    with torch.no_grad():
        answers = network(torch.tensor([-1.0, 1.3]).reshape(2, 1, 1, 1).expand(2, 3, SIDE, SIDE))
        network.linear.bias[0] -= (answers[:, 0] - answers[:, 1]).mean()
    model = onnx_from_torch(network, input_shape=(3, SIDE, SIDE))
    doors_named(model, ("picture", "brightness"))
    onnx.save(model, folder / "network.onnx")
    random = np.random.default_rng(0)
    for name in ("photos/deep", "inputs"):
        (folder / name).mkdir(parents=True)
    pictures = [
        np.clip(random.normal(190 if n % 2 else 60, 25, (40, 32, 3)), 0, 255).astype(np.uint8) for n in range(60)
    ]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / ("photos" if number < 30 else "photos/deep") / f"{number}.png")
    (folder / "photos" / "broken.jpg").write_bytes(b"no picture")
    centres = np.array([1.3 if n % 2 else -1.0 for n in range(60)])[:, None, None, None]
    inputs = (centres + 0.3 * random.normal(size=(60, 3, SIDE, SIDE))).astype(np.float32)
    np.save(folder / "inputs" / "all.npy", inputs)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("data", ["photos", "inputs"])
def test_60_inputs_without_labels_make_an_engine_that_agrees_with_the_file(
    data: str, compress: Any, world: Path
) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    # How fast so small a network is, and whether 24 answers decide a point of accuracy, is not asked here.
    ended = compress(
        "network.onnx", "--data", data, "--target", "x86-cpu", "--out", f"out-{data}", "--json", "--max-accuracy-drop",
        "10", cwd=world,
    )  # fmt: skip
    assert ended.exit_code in (0, 1, 3), ended.stderr
    told = json.loads(ended.stdout)
    assert [row["name"] for row in told["stages"]] == ["teacher", "quantize", "export", "build"]
    assert told["stages"][0]["accuracy"] == 1.0  # its own answers are the labels
    assert told["stages"][-1]["accuracy"] >= 0.9
    manifest = json.loads((world / f"out-{data}" / "bundle" / "manifest.json").read_text())
    tried = manifest["stages"][1]["facts"]["tried"]
    assert [step for step, _, _ in tried][:4] == ["mse", "minmax", "percentile", "entropy"]
    assert manifest["stages"][-1]["facts"]["hops"][0]["from"] == "teacher"
    for file in ("model.onnx", "engine.onnx"):  # who asks the file by its names goes on doing so
        if (world / f"out-{data}" / "bundle" / file).is_file():
            assert doors_of(onnx.load(world / f"out-{data}" / "bundle" / file)) == ("picture", "brightness")
    if data == "photos":
        assert "broken.jpg" in ended.stderr
    verified = compress("verify", f"out-{data}/bundle", cwd=world)
    assert verified.exit_code == 0, verified.stderr
