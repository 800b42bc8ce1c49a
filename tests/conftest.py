"""What several tests share: where real data lies, how many threads torch may take, and a run that takes a second."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.candidate import Candidate, Form, save_weights
from pipeline.data.dataset import Dataset, Split
from pipeline.data.preprocess import Preprocess
from pipeline.progress import Quiet
from pipeline.stage import Run
from pipeline.training.batches import normalised, rows
from pipeline.workers import Workers, start_workers
from targets.accuracy import top1
from targets.find import target_named

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """A worker of pytest-xdist, and all that it starts, keeps to its share of the cores.

    Threads of one test that wait for a core another test is on spin, and both crawl.
    """
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    cores = sorted(os.sched_getaffinity(0))
    if worker is not None and workers is not None and len(cores) >= int(workers):
        os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) :: int(workers)])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole runs of the command come first, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.parent not in (REPOSITORY / "tests", REPOSITORY / "tests" / "cli"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # on cores that others use too, threads that wait for each other are ten times slower


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets and networks: EDGE_COMPRESS_DATA, else ../shared/data beside the repository."""
    named = os.environ.get("EDGE_COMPRESS_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is missing: no folder {folder}; name one with EDGE_COMPRESS_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_data() -> Callable[..., Dataset]:
    """Makes data of 4 classes that can be learned in seconds: a random pattern per class, and noise.

    shape: of one input; (C, H, W) for uint8 pictures, (F,) for float vectors
    """

    def make(shape: tuple[int, ...] = (3, 16, 16), *, counts: tuple[int, int, int] = (64, 32, 16)) -> Dataset:
        random, total = np.random.default_rng(7), sum(counts)
        labels = np.arange(total) % 4
        patterns, noise = random.normal(size=(4, *shape)), random.normal(size=(total, *shape))
        inputs = (patterns[labels] + 0.5 * noise).astype(np.float32)
        preprocess = None
        if len(shape) == 3:
            inputs = np.clip(128 + 50 * inputs, 0, 255).astype(np.uint8)
            side = {"channels": shape[0], "height": shape[1], "width": shape[2]}
            preprocess = Preprocess(**side, mean=(0.5,) * shape[0], std=(0.25,) * shape[0])
        ends = np.cumsum(counts)
        train, validation, test = (
            Split(name, inputs[end - count : end], labels[end - count : end], np.arange(end - count, end))
            for name, count, end in zip(("train", "validation", "test"), counts, ends, strict=True)
        )
        return Dataset("tiny", train, validation, test, labels=("a", "b", "c", "d"), preprocess=preprocess)

    return make


@pytest.fixture(scope="session")
def alone() -> Workers:
    """One process, one thread."""
    return start_workers(devices=1, hosts=1, threads=1)


@pytest.fixture
def run_in(alone: Workers, tiny_data: Callable[..., Dataset]) -> Callable[..., Run]:
    """Makes the Run of a stage that works in the given folder; any field can be named."""

    def make(folder: Path, **fields: Any) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {
            "target": target_named("x86-cpu"), "dataset": fields.get("dataset") or tiny_data(), "teacher": None,
            "student": None, "student_weights": None, "metric": top1, "digest": "0" * 64, "seed": 0, "threads": 1,
            "shared": folder.parent / "answers", "epochs_scale": 1.0, "workers": alone, "progress": Quiet(),
        }  # fmt: skip
        return Run(**{**settings, "folder": folder, **fields})

    return make


@pytest.fixture
def candidate_in() -> Callable[..., Candidate]:
    """Makes a candidate with random weights whose batch norms have seen the training split."""

    def make(folder: Path, architecture: Callable[[], torch.nn.Module], data: Dataset, *, seed: int = 0) -> Candidate:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = architecture().train()
            with torch.no_grad():
                for _ in range(10):
                    module(normalised(rows(data.train, slice(None)), dataset=data))
        path = folder / "weights.safetensors"
        save_weights(module, path)
        return Candidate("teacher", Form.TORCH, "1" * 64, path, None, {}, architecture)

    return make
