"""An ONNX file that takes the numbers of words, and texts without labels: quantized without training."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pipeline.models.text_encoder import TextEncoder
from targets.reach.local import is_x86

WORDS, LENGTH = 40, 8


@pytest.mark.slow
def test_60_texts_without_labels_make_an_engine_that_takes_whole_numbers_and_agrees_with_the_file(
    compress: Any, tmp_path: Path
) -> None:
    if not is_x86():
        pytest.skip("an x86 processor is missing")
    torch.manual_seed(0)
    encoder = TextEncoder(words=WORDS, classes=3, length=LENGTH, depth=1, width=32, heads=2).eval()
    nn.init.normal_(encoder.token.weight)  # so that texts are told apart by their words
    random = np.random.default_rng(0)
    texts = random.integers(1, WORDS, size=(60, LENGTH))
    for text, length in zip(texts, random.integers(3, LENGTH + 1, 60), strict=True):
        text[length:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder, (torch.from_numpy(texts[:2]),), str(tmp_path / "encoder.onnx"), dynamo=False, opset_version=13,
            input_names=["ids"], output_names=["scores"], dynamic_axes={"ids": {0: "n"}, "scores": {0: "n"}},
        )  # fmt: skip
    (tmp_path / "texts").mkdir()
    np.save(tmp_path / "texts" / "all.npy", texts)
    np.save(tmp_path / "one.npy", texts[0])
    # How fast so small a network is, and how many of 24 random answers move, is not asked here.
    ended = compress(
        "encoder.onnx", "--data", "texts", "--target", "x86-cpu", "--out", "out", "--json", "--max-accuracy-drop", "60",
        "--min-speedup", "0.001", cwd=tmp_path,
    )  # fmt: skip
    assert ended.exit_code in (0, 3), ended.stderr
    told = json.loads(ended.stdout)
    assert [row["name"] for row in told["stages"]] == ["teacher", "quantize", "export", "build"]
    assert told["stages"][0]["accuracy"] == 1.0  # its own answers are the labels
    bundle = tmp_path / "out" / "bundle"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["input"]["dtype"], manifest["input"]["shape"]) == ("int64", [1, LENGTH])
    assert len(manifest["stages"][1]["facts"]["placement"]["weights"]) == 6  # 4 of the attention, 2 behind it
    assert np.load(bundle / "examples.npz")["inputs"].dtype == np.int64
    assert onnx.load(bundle / "model.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT64
    verified = compress("verify", "out/bundle", cwd=tmp_path)
    assert verified.exit_code == 0, verified.stderr
    answered = compress("run", "out/bundle", "--input", "one.npy", cwd=tmp_path)
    assert answered.exit_code == 0, answered.stderr
