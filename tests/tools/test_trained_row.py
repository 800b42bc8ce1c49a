"""A row of the comparison whose network is trained there: what it leaves for the quantizers, on 150 inputs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

TOOLS = Path(__file__).resolve().parents[2] / "tools"
RECIPE = '''
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.data.dataset import Dataset, Split
from pipeline.models.text_encoder import TextEncoder
from pipeline.recipe import Recipe
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.stages.quantize import Quantize
from pipeline.stages.teach import Teacher
from pipeline.training.loop import Training
from pipeline.training.optimizers import AdamW


@dataclass(frozen=True)
class FirstWord:
    """Texts of four words out of six; the class is the first word."""

    def __call__(self, folder, *, cache=None):
        random = np.random.default_rng(0)
        texts = random.integers(1, 7, size=(150, 4)).astype(np.float32)
        texts[:, 1:] += 6
        def split(name, first):
            part = slice(first, first + 50)
            return Split(name, texts[part], texts[part, 0].astype(np.int64) - 1, np.arange(first, first + 50))
        return Dataset("words", split("train", 0), split("validation", 50), split("test", 100), tuple("abcdef"))


RECIPE = Recipe(
    name="words", summary="", data=FirstWord(),
    teacher=Teacher(partial(TextEncoder, words=13, classes=6, length=4, depth=1, width=16),
                    training=Training(epochs=20, batch=10, optimizer=AdamW(lr=1e-2))),
    stages=(Quantize(), Export(), Build()),
)
'''


def test_a_row_that_is_trained_here_leaves_a_file_that_answers_as_its_teacher_and_is_trained_1_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    from int8_peers import trained_teacher
    from int8_peers.networks import write_inputs

    from pipeline.recipe_from_onnx import recipe_from_onnx

    recipe = tmp_path / "words.py"
    recipe.write_text(RECIPE)
    row = trained_teacher.Trained("words", str(recipe))
    times: list[int] = []
    teach = trained_teacher.teach
    monkeypatch.setattr(trained_teacher, "teach", lambda *given, **named: times.append(1) or teach(*given, **named))
    for calibration in (20, 30):  # other inputs, the same network
        write_inputs(row, tmp_path, into=tmp_path / "work" / "words", calibration=calibration, seed=0)
    assert len(times) == 1
    given = tmp_path / "work" / "words" / "given"
    assert np.load(given / "calibration.npy").shape == (30, 4)
    module = recipe_from_onnx(given / "float.onnx").teacher.factory().eval()  # which ours begins with
    with torch.inference_mode():
        answers = module(torch.from_numpy(np.load(given / "choosing.npy"))).numpy()
    kept = np.load(given / "answers.npy")
    np.testing.assert_allclose(kept, answers, rtol=0, atol=1e-4)  # sums in another order
    assert (kept.argmax(1) == np.load(given / "labels.npy")).mean() > 0.9
