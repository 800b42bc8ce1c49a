"""The store of baselines on bundles of six small files: what is written, what is refused, and what a prune leaves."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.baseline_command import baseline
from pipeline.errors import BundleRefused, OnlyNumbers, OutRefused, UsageRefused
from pipeline.gate.baseline_copy import held
from pipeline.gate.baseline_names import names_in
from pipeline.gate.baselines import bundle_of_baseline, prune_baselines, update_baseline
from pipeline.integrity import MANIFEST, SIGNATURE, SUMS, digests_of, read_manifest, refuse_damaged, sums_text

Made = Callable[..., Path]


@pytest.fixture
def bundle(tmp_path: Path) -> Made:
    """Makes a whole bundle; another `engine` is another bundle."""

    def make(name: str = "bundle", *, engine: str = "engine") -> Path:
        folder = tmp_path / name
        (folder / "deep").mkdir(parents=True)
        for file in ("model.onnx", "run.py", "labels.json", "examples.npz", "deep/er.txt"):
            (folder / file).write_text(f"{file}\n")
        (folder / "engine.onnx").write_text(engine)
        sealed(folder)
        return folder

    return make


def sealed(folder: Path) -> None:
    listed = digests_of(folder)
    told = {
        "schema": 1, "created_by": "edge-compress 0.1.0", "files": listed, "target": {"name": "x86-cpu"},
        "engine": {"file": "engine.onnx", "threads": 1}, "labels": "labels.json", "examples": "examples.npz",
    }  # fmt: skip
    text = json.dumps(told)
    (folder / MANIFEST).write_text(text)
    (folder / SUMS).write_text(sums_text(listed, manifest=hashlib.sha256(text.encode()).hexdigest()))


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When every file was written, and what it holds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_bundle_lies_under_the_first_16_digits_of_its_digest(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    stored = update_baseline(source, store=store)
    digest = hashlib.sha256((source / SUMS).read_bytes()).hexdigest()
    assert stored.folder == store / digest[:16]
    assert sorted(each.name for each in store.iterdir()) == sorted([digest[:16], "main.json"])  # and no lock, no rest
    assert {name: data for name, (_, data) in snapshot(stored.folder).items()} == {
        name: data for name, (_, data) in snapshot(source).items()
    }
    told = json.loads((store / "main.json").read_text())
    assert (told["schema"], told["digest"], told["bundle"]) == (1, digest, digest[:16])
    assert (told["target"], told["created_by"], told["replaced"]) == ("x86-cpu", "edge-compress 0.1.0", None)
    assert refuse_damaged(stored.folder, read_manifest(stored.folder)) == 6 + 2


def test_the_same_bundle_a_2nd_time_writes_nothing(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    first = update_baseline(source, store=store)
    before = snapshot(store)
    again = update_baseline(source, store=store)
    assert (first.copied, first.renamed, again.copied, again.renamed) == (True, True, False, False)
    assert snapshot(store) == before


def test_the_3rd_bundle_says_which_it_replaced_and_both_stay(bundle: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    stored = [update_baseline(bundle(f"b{n}", engine=f"engine {n}"), store=store) for n in range(3)]
    assert stored[2].named.replaced == stored[1].named.digest
    assert len([path for path in store.iterdir() if path.is_dir()]) == 3


def test_1_bundle_under_2_names_is_stored_once_with_1_date(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    os.utime(source / MANIFEST, (1_700_000_000, 1_700_000_000))  # 2023-11-14 22:13:20 UTC
    update_baseline(source, store=store)
    second = update_baseline(store / "main.json", store=store, name="v1.0")
    assert (second.copied, second.renamed) == (False, True)
    assert [(each.name, each.date) for each in names_in(store)] == [
        ("main", "2023-11-14T22:13:20+00:00"),
        ("v1.0", "2023-11-14T22:13:20+00:00"),
    ]


def test_a_stored_bundle_with_1_changed_byte_is_stored_anew(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    folder = update_baseline(source, store=store).folder
    (folder / "engine.onnx").write_text("Engine")
    healed = update_baseline(source, store=store)
    assert (healed.copied, healed.renamed) == (True, False)
    assert (folder / "engine.onnx").read_text() == "engine"
    assert [path.name for path in store.iterdir() if path.name.startswith(".")] == []


def test_1_file_of_somebody_else_in_a_damaged_folder_is_not_lost(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    folder = update_baseline(source, store=store).folder
    (folder / "engine.onnx").unlink()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutRefused, match=r"holds notes\.txt"):
        update_baseline(source, store=store)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_signature_that_came_later_is_1_more_file_of_the_stored_bundle(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    folder = update_baseline(source, store=store).folder
    for words in ("signed", "by another"):
        (source / SIGNATURE).write_text(words)
        assert update_baseline(source, store=store).copied is False
        assert (folder / SIGNATURE).read_text() == words


def test_what_a_device_left_beside_the_6_files_is_not_stored(bundle: Made, tmp_path: Path) -> None:
    source = bundle()
    (source / "evidence").mkdir()
    (source / "evidence" / "log.txt").write_text("seen")
    folder = update_baseline(source, store=tmp_path / "store").folder
    assert not (folder / "evidence").exists()


@pytest.mark.parametrize("damage", ["changed", "missing", "unlisted"])
def test_0_files_of_a_damaged_bundle_are_written(bundle: Made, tmp_path: Path, damage: str) -> None:
    source = bundle()
    if damage == "missing":
        (source / "labels.json").unlink()
    else:
        (source / ("engine.onnx" if damage == "changed" else "more.txt")).write_text("else")
    with pytest.raises(BundleRefused, match=rf"{damage if damage != 'unlisted' else 'not listed'}: "):
        update_baseline(source, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_inside_the_1_bundle_it_would_keep_is_refused(bundle: Made) -> None:
    source = bundle()
    with pytest.raises(UsageRefused, match="inside the bundle"):
        update_baseline(source, store=source / "baselines")
    refuse_damaged(source, read_manifest(source))


def test_prune_removes_1_of_2_bundles_and_0_of_the_5_other_things(bundle: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    old = update_baseline(bundle("old", engine="old"), store=store).folder
    new = update_baseline(bundle("new", engine="new"), store=store).folder
    lost = update_baseline(bundle("lost", engine="lost"), store=store, name="v1").folder
    (store / "v1.json").unlink()
    (lost / "notes.txt").write_text("mine")  # no whole bundle any more
    (store / "0123456789abcdef").mkdir()
    (store / "0123456789abcdef" / "thesis.tex").write_text("mine")
    (store / "other.json").write_text("{}")
    (store / "README.md").write_text("mine")
    (store / "fedcba9876543210").symlink_to(old)
    pruned = prune_baselines(store)
    assert (pruned.removed, len(pruned.left)) == ((old.name,), 2)
    assert sorted(path.name for path in store.iterdir()) == sorted(
        [new.name, lost.name, "0123456789abcdef", "fedcba9876543210", "main.json", "other.json", "README.md"]
    )
    assert (lost / "notes.txt").is_file()
    refuse_damaged(new, read_manifest(new))


def test_1_name_with_marks_of_a_merge_stops_a_prune_and_an_update_repairs_it(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    folder = update_baseline(source, store=store).folder
    (store / "main.json").write_text("<<<<<<< HEAD\n")
    with pytest.raises(BundleRefused, match=r"main\.json is damaged"):
        prune_baselines(store)
    assert folder.is_dir()
    assert update_baseline(source, store=store).renamed
    assert prune_baselines(store).removed == ()


def test_each_of_5_places_means_the_same_bundle(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle("out/bundle"), tmp_path / "store"
    folder = update_baseline(source, store=store).folder
    assert bundle_of_baseline(source) == bundle_of_baseline(source.parent) == source
    assert bundle_of_baseline(source / MANIFEST) == source
    assert bundle_of_baseline(store / "main.json") == bundle_of_baseline(store) == folder


def test_a_store_with_2_names_is_refused_with_both(bundle: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("main", "v1"):
        update_baseline(bundle(name, engine=name), store=store, name=name)
    with pytest.raises(UsageRefused, match=r"holds 2 baselines \(main, v1\)"):
        bundle_of_baseline(store)
    with pytest.raises(BundleRefused, match=r"Did you mean the baseline .*/main\.json"):
        bundle_of_baseline(store / "main")


@pytest.mark.parametrize("place", ["result.json", "run", "kept"])
def test_each_of_3_places_with_only_numbers_says_to_keep_the_bundle(bundle: Made, tmp_path: Path, place: str) -> None:
    (tmp_path / "result.json").write_text('{"stages": []}')
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text('{"stages": []}')
    kept = bundle("kept")
    for name in ("engine.onnx", "model.onnx", "examples.npz"):
        (kept / name).unlink()
    with pytest.raises(OnlyNumbers, match="keep the bundle itself") as caught:
        bundle_of_baseline(tmp_path / place)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300
    assert isinstance(caught.value, BundleRefused)


def test_3_places_without_a_bundle_are_not_called_numbers(bundle: Made, tmp_path: Path) -> None:
    (tmp_path / "engine.onnx").write_bytes(b"\x08\x07")
    (tmp_path / "empty").mkdir()
    for place in ("engine.onnx", "empty", "nowhere"):
        with pytest.raises(BundleRefused) as caught:
            bundle_of_baseline(tmp_path / place)
        assert not isinstance(caught.value, OnlyNumbers)


def test_2_files_that_git_lfs_did_not_fetch_are_named_with_what_to_run(bundle: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    folder = update_baseline(bundle(), store=store).folder
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6\n"
    for name in ("engine.onnx", MANIFEST):
        (folder / name).write_text(pointer)
    for place in (store / "main.json", folder):
        with pytest.raises(BundleRefused, match=r"engine\.onnx, manifest\.json are pointers .* `git lfs pull`"):
            bundle_of_baseline(place)
    (store / "main.json").write_text(pointer)
    with pytest.raises(BundleRefused, match="git lfs pull"):
        bundle_of_baseline(store / "main.json")


def test_a_name_whose_bundle_is_gone_or_another_is_refused_in_2_ways(bundle: Made, tmp_path: Path) -> None:
    store = tmp_path / "store"
    folder = update_baseline(bundle(), store=store).folder
    (folder / SUMS).write_text((folder / SUMS).read_text().replace("\n", "\r\n"))
    with pytest.raises(BundleRefused, match="line ends"):
        bundle_of_baseline(store / "main.json")
    shutil.rmtree(folder)
    with pytest.raises(BundleRefused, match="Fetch that folder too"):
        bundle_of_baseline(store / "main.json")


def test_a_2nd_process_at_work_is_told_so_and_a_killed_one_leaves_nothing(bundle: Made, tmp_path: Path) -> None:
    source, store = bundle(), tmp_path / "store"
    with held(store), pytest.raises(OutRefused, match="another `compress baseline` is at work"):
        update_baseline(source, store=store)
    (store / ".0123456789abcdef.k1ll3d_x").mkdir()
    (store / ".git").mkdir()
    update_baseline(source, store=store)
    assert sorted(path.name for path in store.iterdir() if path.name.startswith(".")) == [".git"]


def test_a_file_in_the_place_of_the_store_is_refused_by_the_1_flag_that_names_it(bundle: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutRefused, match="--store") as caught:
        update_baseline(bundle(), store=tmp_path / "file")
    assert "--out" not in str(caught.value)


def test_the_command_keeps_lists_and_prunes_with_1_json_object_each(
    bundle: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> Any:
        assert baseline([*arguments, "--store", str(tmp_path / "store"), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert told()["baselines"] == []
    first = told("update", str(bundle()))
    assert (first["name"], first["copied"], first["changed"], first["replaced"]) == ("main", True, True, None)
    size = sum(path.stat().st_size for path in Path(first["folder"]).rglob("*") if path.is_file())
    second = told("update", str(bundle("new", engine="new")), "--prune")
    assert (second["replaced"], second["removed"]) == (first["digest"], [first["bundle"]])
    (row,) = told()["baselines"]
    assert (row["target"], row["digest"], row["bytes"]) == ("x86-cpu", second["digest"], size - len("engine") + 3)


def test_the_list_for_a_reader_has_5_columns_and_says_what_is_not_there(
    bundle: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    folder = update_baseline(bundle(), store=store).folder
    shutil.rmtree(folder)
    assert baseline(["--store", str(store)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "target", "bundle", "date", "size"]
    assert row.split()[:3] == ["main", "x86-cpu", folder.name]
    assert row.endswith("not there")
