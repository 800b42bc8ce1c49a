"""Two runs on one folder: the second is told so and changes nothing."""

import multiprocessing
import os
from pathlib import Path

import pytest

from pipeline.errors import OutRefused
from pipeline.lock import locked


def hold(folder: Path, *, holds: object, let_go: object) -> None:
    with locked(folder):
        holds.set()  # type: ignore[attr-defined]
        let_go.wait(30)  # type: ignore[attr-defined]


def test_a_second_process_is_refused_with_the_number_of_the_first_and_let_in_after_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    holds, let_go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path,), kwargs={"holds": holds, "let_go": let_go})
    other.start()
    try:
        assert holds.wait(30)
        with pytest.raises(OutRefused, match=rf"process {other.pid}\b.*--out"), locked(tmp_path):
            pass
    finally:
        let_go.set()
        other.join()
    with locked(tmp_path):
        assert (tmp_path / "run.lock").read_text() == str(os.getpid())


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    holds, let_go = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path,), kwargs={"holds": holds, "let_go": let_go})
    other.start()
    assert holds.wait(30)
    other.kill()
    other.join()
    with locked(tmp_path):
        pass


def test_an_error_inside_lets_go_and_the_next_of_2_runs_gets_in(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_a_folder_that_is_a_file_is_refused_with_1_sentence_of_advice(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutRefused, match="--out"), locked(tmp_path / "out"):
        pass


def test_a_folder_without_leave_to_write_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("a user whom permissions hold back is missing: this is root")
    tmp_path.chmod(0o500)
    with pytest.raises(OutRefused, match="cannot be written"), locked(tmp_path):
        pass
