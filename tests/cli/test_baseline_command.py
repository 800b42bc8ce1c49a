"""`compress baseline` on the bundle of a real run, typed as a user types it."""

import shutil
from pathlib import Path
from typing import Any


def test_the_bundle_of_a_run_is_kept_once_and_still_verifies(finished: Any, quick: Any, tmp_path: Path) -> None:
    kept = quick("baseline", "update", str(finished.out), "--json", cwd=tmp_path)
    assert kept.exit_code == 0, kept.stderr
    assert (kept.told["name"], kept.told["target"], kept.told["copied"]) == ("main", "x86-cpu", True)
    assert kept.told["created_by"].startswith("edge-compress ")
    again = quick("baseline", "update", str(finished.out / "bundle"), "--json", cwd=tmp_path)
    assert (again.told["copied"], again.told["changed"], again.told["digest"]) == (False, False, kept.told["digest"])
    folder = tmp_path / "baselines" / kept.told["bundle"]
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, "main.json"])
    verified = quick("verify", str(folder), "--json", cwd=tmp_path)
    assert (verified.exit_code, verified.told["identical"]) == (0, True), verified.stderr
    listed = quick("baseline", cwd=tmp_path)
    assert listed.stdout.splitlines()[1].split()[:3] == ["main", "x86-cpu", folder.name]


def test_a_bundle_with_1_changed_byte_leaves_no_store(finished: Any, quick: Any, tmp_path: Path) -> None:
    shutil.copytree(finished.out / "bundle", tmp_path / "bundle")
    with (tmp_path / "bundle" / "model.onnx").open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    refused = quick("baseline", "update", "bundle", cwd=tmp_path)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "changed: model.onnx" in refused.stderr
    assert not (tmp_path / "baselines").exists()
