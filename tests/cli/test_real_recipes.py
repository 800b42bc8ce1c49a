"""The built-in recipes with real files, from their data and weights to a bundle, on a few hundred pictures.

On the null device, which measures nothing: what is asked is whether files, networks and stages fit together. Accuracy
and speed of the whole runs are in docs/results.md.
"""

from pathlib import Path
from typing import Any

import pytest

RECIPE = """
from dataclasses import dataclass, replace

from pipeline.data.dataset import Dataset
from pipeline.recipes.{module} import RECIPE as WHOLE


@dataclass(frozen=True)
class Few:
    # The first pictures of each part of the real data.
    def __call__(self, folder, *, cache):
        whole = WHOLE.data(folder, cache=cache)
        parts = [
            replace(part, inputs=part.inputs[:n], labels=part.labels[:n], indices=part.indices[:n])
            for part, n in zip(whole.splits, (256, 128, 64))
        ]
        return Dataset(whole.name, *parts, labels=whole.labels, preprocess=whole.preprocess)


RECIPE = replace(WHOLE, data=Few())
"""
STAGES = ["teacher", "distill", "prune", "quantize", "export", "build"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "files", "length"),
    [
        ("cifar10-resnet56", ("resnet56-4bfd9763.th", "resnet20-12fca82f.th", "cifar10_small.npz"), "0.01"),
        ("fashion-mnist", ("train-images-idx3-ubyte.gz",), "2"),  # its teacher is trained, on 256 pictures
    ],
)
def test_a_recipe_with_256_real_pictures_goes_through_its_6_rows(
    name: str, files: tuple[str, ...], length: str, data_folder: Path, quick: Any, tmp_path: Path
) -> None:
    missing = [file for file in files if not list(data_folder.rglob(file))]
    if missing:
        pytest.skip(f"real data is missing below {data_folder}: {', '.join(missing)}")
    (tmp_path / "few.py").write_text(RECIPE.format(module=name.replace("-", "_")))
    flags = ("--recipe", "./few.py", "--data", str(data_folder), "--target", "null", "--epochs-scale", length)
    ended = quick(*flags, "--max-accuracy-drop", "100", "--min-speedup", "0.001", "--json", cwd=tmp_path)
    assert ended.exit_code in (0, 1, 3), ended.stderr
    assert [stage["name"] for stage in ended.told["stages"]] == STAGES
    assert ended.told["recipe"] == name
    assert (tmp_path / ended.told["bundle"] / "manifest.json").is_file()


def test_2_files_of_weights_and_the_data_that_are_missing_are_named_at_once(quick: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = quick("--target", "x86-cpu", "--recipe", "cifar10-resnet56", "--data", "empty", cwd=tmp_path)
    assert ended.exit_code == 2
    for missing in ("resnet56-4bfd9763.th", "resnet20-12fca82f.th", "CIFAR-10 (https://www.cs.toronto.edu"):
        assert missing in ended.stderr
    assert ended.stderr.count("empty") >= 2  # where each was looked for
