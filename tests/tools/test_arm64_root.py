"""What the tool that makes an ARM64 Python writes by itself; packages, wheels and qemu are not needed for that."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file of the tool."""
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    import arm64_root

    return arm64_root


def test_the_wrapper_starts_the_emulator_with_2_folders_that_have_spaces(tool: Any, tmp_path: Path) -> None:
    folder = tmp_path / "of arm"
    folder.mkdir()
    emulator = tmp_path / "an emulator"
    emulator.write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONHOME" "$PYTHONPATH" "$@"\n')
    emulator.chmod(0o755)
    wrapper = tool.write_wrapper(folder, emulator=str(emulator), python=folder / "root/usr/bin/python3.11")
    said = subprocess.run([wrapper, "-c", "print(1, 2)"], capture_output=True, text=True, check=True).stdout
    root = folder / "root"
    assert said.splitlines() == [
        f"{root}/usr", f"{root}/opt/site", "-cpu", "cortex-a76", "-L", str(root), "-0", str(folder / "bin/python3"),
        f"{root}/usr/bin/python3.11", "-c", "print(1, 2)",
    ]  # fmt: skip


def test_3_cores_of_a_cortex_a76_are_described(tool: Any, tmp_path: Path) -> None:
    tool.describe_processor(tmp_path, cores=3)
    cpuinfo = (tmp_path / "proc/cpuinfo").read_text()
    assert [line for line in cpuinfo.splitlines() if line.startswith("processor")] == [
        f"processor\t: {core}" for core in range(3)
    ]
    assert cpuinfo.count("asimddp") == 3
    system = tmp_path / "sys/devices/system/cpu"
    assert (system / "possible").read_text() == "0-2\n"
    assert (system / "cpu2/cache/index3/shared_cpu_list").read_text() == "0-2\n"
    assert (system / "cpu2/cache/index0/shared_cpu_list").read_text() == "2\n"


def test_of_4_folders_the_empty_one_and_the_one_that_is_not_pythons_are_removed(tool: Any, tmp_path: Path) -> None:
    for name in ("usr/lib/python3.11/os.py", "etc/passwd", "usr/lib/ld-linux-aarch64.so.1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a file")
    for name in ("tmp", "usr/local/share"):
        (tmp_path / name).mkdir(parents=True)
    tool.keep_what_python_needs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lib", "usr"]
    assert not (tmp_path / "usr/local").exists()
    assert (tmp_path / "lib/ld-linux-aarch64.so.1").read_text() == "a file"  # where the packages lack the link


def test_a_folder_with_1_file_is_refused_before_anything_is_loaded(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool.shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "mine").write_text("not yours")
    assert tool.main([str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
    monkeypatch.setattr(tool.shutil, "which", lambda name: None)
    assert tool.main([str(tmp_path / "new")]) == 1
    assert "apt-get, dpkg-deb, qemu-aarch64-static" in capsys.readouterr().err
