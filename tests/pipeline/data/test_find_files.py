"""Files of a data set, wherever they lie."""

from pathlib import Path

import pytest

from pipeline.data.find_files import find_all, find_file
from pipeline.errors import DataMissing


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_a_file_4_folders_down_is_found_and_5_down_is_not(tmp_path: Path) -> None:
    deep = touched(tmp_path / "1" / "2" / "3" / "4" / "a.gz")
    touched(tmp_path / "1" / "2" / "3" / "4" / "5" / "b.gz")
    assert find_file(["a.gz"], tmp_path, what="x") == deep
    with pytest.raises(DataMissing, match=r"b\.gz"):
        find_file(["b.gz"], tmp_path, what="x")


def test_the_one_folder_that_holds_both_is_preferred_to_two_that_hold_one_each(tmp_path: Path) -> None:
    touched(tmp_path / "a" / "images")
    touched(tmp_path / "b" / "labels")
    both = [touched(tmp_path / "c" / name) for name in ("images", "labels")]
    assert find_all([["images"], ["labels"]], tmp_path, what="x") == both


def test_both_of_2_missing_files_are_named_and_the_third_is_not(tmp_path: Path) -> None:
    touched(tmp_path / "c")
    with pytest.raises(DataMissing, match=f"missing a or a.gz, b; looked into {tmp_path}"):
        find_all([["a", "a.gz"], ["b"], ["c"]], tmp_path, what="x")


def test_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    touched(tmp_path / ".hidden" / "a")
    with pytest.raises(DataMissing):
        find_file(["a"], tmp_path, what="x")


@pytest.mark.parametrize("folder", [None, Path("nowhere")])
def test_without_a_folder_the_message_names_the_1_file(folder: Path | None) -> None:
    with pytest.raises(DataMissing, match=r"digits\.npz"):
        find_file(["digits.npz"], folder, what="x")
