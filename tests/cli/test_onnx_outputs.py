"""A detector as an ONNX file, two outputs and no classes, through the whole command; its bundle answers by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from targets.reach.local import is_x86

SIDE = 16
SHAPES = {"scores": [1, 64, 2], "boxes": [1, 4, 8, 8]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """detector.onnx with `scores` (1, 64, 2) and `boxes` (1, 4, 8, 8), and 60 inputs in one array."""
    folder = tmp_path_factory.mktemp("outputs")
    random = np.random.default_rng(2)

    def weight(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {
        "w1": weight(8, 3, 3, 3), "w2": weight(16, 8, 3, 3), "w3": weight(2, 16, 1, 1), "w4": weight(4, 16, 1, 1),
        "shape": np.array([1, 64, 2]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["h1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["h2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "shape"], ["f"]),
        helper.make_node("Softmax", ["f"], ["scores"], axis=2),
        helper.make_node("Conv", ["r2", "w4"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes, "detector",
        [helper.make_tensor_value_info("x", 1, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in SHAPES.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "detector.onnx")
    (folder / "inputs").mkdir()
    inputs = random.normal(size=(60, 3, SIDE, SIDE)).astype(np.float32)
    np.save(folder / "inputs" / "all.npy", inputs)
    np.save(folder / "one.npy", inputs[:1])
    return folder


@pytest.mark.slow
def test_a_detector_with_2_outputs_becomes_a_bundle_that_keeps_them(compress: Any, world: Path) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    ended = compress(
        "detector.onnx", "--data", "inputs", "--target", "x86-cpu", "--out", "out", "--json", "--min-speedup", "0.001",
        cwd=world,
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert [row["metric"] for row in told["stages"]] == ["fidelity"] * 4
    assert told["stages"][0]["accuracy"] > 1 - 1e-6  # float32 sums in another order
    # Rounding to 8 bits costs each of 3 tensors about 1e-4 of its variance; ranges cut off a little more.
    assert 0.98 < told["stages"][1]["accuracy"] < 1
    bundle = world / "out" / "bundle"
    manifest = json.loads((bundle / "manifest.json").read_text())
    outputs = [{"name": name, "shape": shape} for name, shape in SHAPES.items()]
    assert (manifest["outputs"], manifest["classes"]) == (outputs, 0)
    kept = manifest["quantization"]["kept_float"].values()
    assert [why.split(":")[0] for why in kept] == ["the last layer"] * 2
    assert "Fidelity" in (bundle / "report.md").read_text()
    verified = compress("verify", "out/bundle", cwd=world)
    assert verified.exit_code == 0, verified.stderr
    ran = compress("run", "out/bundle", "--input", "one.npy", "--save", "all.npz", cwd=world)
    assert ran.exit_code == 0, ran.stderr
    assert "  scores  1x64x2  " in ran.stdout
    assert "  boxes  1x4x8x8  " in ran.stdout
    with np.load(world / "all.npz") as saved:
        np.testing.assert_allclose(saved["scores/0"].sum(2), 1, atol=1e-5)  # of a softmax
