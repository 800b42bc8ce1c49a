"""What several tests share: where the real data lies, and how many threads torch may take."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets and networks: EDGE_COMPRESS_DATA, else ../shared/data beside the repository."""
    named = os.environ.get("EDGE_COMPRESS_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is missing: no folder {folder}; name one with EDGE_COMPRESS_DATA")
    return folder
