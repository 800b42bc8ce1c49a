"""Targets by name and by path."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from targets.devices import null
from targets.errors import DeviceMissing, UnknownTarget
from targets.find import target_named, target_names


def test_the_2_built_in_targets_are_listed_and_found() -> None:
    assert {"null", "x86-cpu"} <= set(target_names())
    assert target_named("null") is null.TARGET
    assert target_named("x86-cpu").name == "x86-cpu"


@pytest.mark.parametrize(("typo", "meant"), [("x86", "x86-cpu"), ("x86_cpu", "x86-cpu"), ("X86-CPU", "x86-cpu")])
def test_a_name_with_1_slip_is_answered_with_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(UnknownTarget, match=f"Did you mean {meant}") as unknown:
        target_named(typo)
    for name in target_names():
        assert name in str(unknown.value)


@pytest.mark.parametrize("name", ["", "toaster", "__init__", "../errors", "targets.errors"])
def test_a_name_near_to_none_is_answered_with_the_list(name: str) -> None:
    with pytest.raises(UnknownTarget, match="Targets are: "):
        target_named(name)


def test_a_users_own_file_is_a_target(tmp_path: Path) -> None:
    file = tmp_path / "my_board.py"
    file.write_text(
        "from dataclasses import replace\nfrom targets.devices.null import TARGET as NULL\n"
        "TARGET = replace(NULL, name='my-board')\n"
    )
    assert target_named(str(file)).name == "my-board"


def test_a_users_file_without_target_or_without_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UnknownTarget, match="holds no TARGET"):
        target_named(str(tmp_path / "empty.py"))
    with pytest.raises(UnknownTarget, match="no file"):
        target_named(str(tmp_path / "nowhere.py"))


def test_a_target_that_is_not_here_says_where_to_run() -> None:
    null.TARGET.must_be_here()
    with pytest.raises(DeviceMissing, match="not a null"):
        replace(null.TARGET, is_here=lambda: False).must_be_here()


def test_listing_the_targets_imports_neither_torch_nor_a_runtime() -> None:
    code = (
        "import sys; from targets.find import target_named, target_names; target_names(); target_named('x86-cpu');"
        "print([name for name in ('torch', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
