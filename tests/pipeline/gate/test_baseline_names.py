"""The names of a store and the flags of its command: what is refused before any bundle is looked at."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.baseline_command import baseline
from pipeline.errors import BundleRefused, UsageRefused
from pipeline.gate.baseline_names import named_in, names_in, refuse_name
from pipeline.gate.baselines import bundle_of_baseline, update_baseline

DIGEST = "0123456789abcdef" * 4
TOLD = {
    "schema": 1, "kind": "edge-compress baseline", "digest": DIGEST, "bundle": DIGEST[:16], "target": "x86-cpu",
    "created_by": "edge-compress 0.1.0", "date": None, "replaced": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["", "..", "../main", "a/b", "-x", ".hidden", "a b", "x" * 65, "main.", "Manifest", "ü", "a\n"]
)
def test_each_of_12_unsafe_names_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageRefused, match="--name"):
        update_baseline(tmp_path / "nowhere", store=tmp_path / "store", name=name)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["main", "v1.0", "release_2-rc.1", "x" * 64, "7"])
def test_each_of_5_plain_names_is_taken(name: str) -> None:
    assert refuse_name(name) is None


def test_a_file_of_names_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "v1.0.json"
    path.write_text(json.dumps(TOLD))
    named = named_in(path)
    assert named is not None
    assert (named.name, named.as_file()) == ("v1.0", TOLD)
    (tmp_path / "package.json").write_text('{"name": "of something else"}')
    assert names_in(tmp_path) == [named]
    assert names_in(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bundle": "../../etc"}, "names no bundle by its digest"),
        ({"bundle": "fedcba9876543210"}, "names no bundle by its digest"),
        ({"digest": DIGEST[:16]}, "names no bundle by its digest"),
        ({"digest": None}, "names no bundle by its digest"),
        ({"schema": 2}, "schema 2"),
    ],
)
def test_a_pointer_that_leads_2_folders_up_or_nowhere_is_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    (tmp_path / "main.json").write_text(json.dumps({**TOLD, **change}))
    for place in (tmp_path / "main.json", tmp_path):
        with pytest.raises(BundleRefused, match=says):
            bundle_of_baseline(place)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["updat", "x"], "Did you mean 'update'"),
        (["update"], "which bundle"),
        (["--name", "x"], "goes with update"),
        (["--prune", "--store", "nowhere"], "there is no store"),
    ],
)
def test_each_of_4_slips_of_the_command_is_answered_in_a_sentence(arguments: list[str], says: str) -> None:
    with pytest.raises(UsageRefused, match=says):
        baseline(arguments)
