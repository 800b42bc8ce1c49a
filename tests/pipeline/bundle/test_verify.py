"""Checking a bundle: damage is found and named, names that lead outside are refused, answers are compared."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from pipeline.bundle import write_bundle
from pipeline.commands.verify_command import verify
from pipeline.errors import BundleRefused
from pipeline.integrity import MANIFEST, SUMS, digests_of, refuse_outside, sums_text
from pipeline.manifest import onnx_file
from pipeline.quantization.float_kernels import quantized_products, with_float_kernels
from pipeline.verify import answer_with_bundle, verify_bundle
from targets.engines.ort import OnnxRuntime
from targets.reach.local import describe_machine

NO_DEVICES = Path("devices.ini")


@pytest.fixture
def bundle(finished: Any) -> Path:
    return write_bundle(finished.plan, finished.journey, dataset=finished.dataset)


def resealed(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Make the manifest and the list of digests fit again after a change: what a forger would do."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = digests_of(folder)
    change(manifest)
    text = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(text)
    sums = sums_text(manifest["files"], manifest=hashlib.sha256(text).hexdigest())
    (folder / SUMS).write_text(sums)


def test_a_whole_bundle_gives_the_16_stored_answers_bit_by_bit(bundle: Path) -> None:
    found = verify_bundle(bundle)
    assert (found.exit_code, found.identical, found.is_the_engine, found.asked) == (0, True, True, "engine.onnx")
    assert found.files == len(list(bundle.iterdir())) == 20
    assert (found.answers.inputs, found.answers.equal_answers, found.answers.largest) == (16, 1.0, 0.0)
    assert found.remarks == ()
    integer = {row.name: row.integer for row in found.operators.rows}
    assert (found.operators.integer, found.operators.floating, integer["/head"]) == (1, 1, False)
    assert all(row.integer or row.why for row in found.operators.rows)
    json.dumps(found.as_json(), allow_nan=False)


def test_the_text_of_verify_names_the_1_of_2_products_in_float_and_says_why(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify([str(bundle)], config=NO_DEVICES) == 0
    summary, *lines = capsys.readouterr().out.splitlines()
    assert "1 of 2 convolutions and matrix products of the engine multiply integers" in summary
    assert len(lines) == 1
    assert lines[0].startswith("  in float: /head (")  # Gemm, or what the runtime makes of it
    assert "not quantized" in lines[0]


def test_verify_repeats_the_build_s_reason_for_the_1_product_in_float_and_keeps_its_own_for_the_others(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def reasoned(manifest: dict[str, Any]) -> None:
        for row in manifest["engine"]["operators"]:
            if not row["integer"]:
                row["why"] = "its integer kernel is slower here: 0.031 ms, and 0.029 ms in float"

    resealed(bundle, reasoned)
    assert verify([str(bundle)], config=NO_DEVICES) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[1]
        .endswith("its integer kernel is slower here: 0.031 ms, and 0.029 ms in float")
    )
    for nothing_said in ([], None, [3], [{"name": "/head"}]):
        resealed(bundle, lambda manifest, rows=nothing_said: manifest["engine"].update(operators=rows))
        assert verify([str(bundle)], config=NO_DEVICES) == 0
        assert "not quantized" in capsys.readouterr().out.splitlines()[1]


def test_a_bundle_whose_1_quantized_layer_has_a_float_kernel_gives_the_16_stored_answers(
    finished: Any, with_journey: Callable[..., Any]
) -> None:
    *before, last = finished.journey.results
    model = onnx.load(onnx_file(last.candidate))
    source, engine = last.candidate.path.parent / "mixed.onnx", last.candidate.path.parent / "mixed.engine.onnx"
    onnx.save(with_float_kernels(model, quantized_products(model)), source)
    OnnxRuntime().build(source, engine, threads=1)
    (row,) = (row for row in OnnxRuntime().operators(engine).rows if row.name != "/head")
    facts = {**last.candidate.facts, "why_float": {row.name: "its integer kernel is slower here"}}
    changed = replace(last, candidate=replace(last.candidate, path=engine, facts=facts))
    told = with_journey(results=(*before, changed))
    folder = write_bundle(told.plan, told.journey, dataset=told.dataset)
    found = verify_bundle(folder)
    assert (found.exit_code, found.identical, found.asked) == (0, True, "engine.onnx")
    assert (found.operators.integer, found.operators.floating) == (0, 2)
    manifest = json.loads((folder / MANIFEST).read_text())
    said = {each["name"]: each["why"] for each in manifest["engine"]["operators"]}
    assert said[row.name] == "its integer kernel is slower here"


def test_the_out_folder_and_the_manifest_itself_lead_to_the_same_bundle(bundle: Path) -> None:
    assert verify_bundle(bundle.parent).bundle == verify_bundle(bundle / MANIFEST).bundle == bundle


def test_one_flipped_bit_in_any_of_the_17_files_is_found_by_its_name(bundle: Path) -> None:
    place = random.Random(3)
    for path in sorted(bundle.iterdir()):
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[place.randrange(len(damaged))] ^= 1 << place.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(BundleRefused, match=path.name.replace(".", r"\.")):
            verify_bundle(bundle)
        path.write_bytes(sound)
    assert verify_bundle(bundle).exit_code == 0


def test_a_missing_and_two_unlisted_files_are_named_together(bundle: Path) -> None:
    (bundle / "labels.json").unlink()
    (bundle / "notes.txt").write_text("mine")
    (bundle / "sub").mkdir()
    (bundle / "sub" / "more.bin").write_text("mine too")
    with pytest.raises(BundleRefused, match=r"missing: labels\.json; not listed: notes\.txt, sub/more\.bin") as refused:
        verify_bundle(bundle)
    assert refused.value.exit_code == 2


def test_what_python_caches_beside_run_py_is_not_damage(bundle: Path) -> None:
    (bundle / "__pycache__").mkdir()
    (bundle / "__pycache__" / "images.cpython-311.pyc").write_bytes(b"x")
    assert verify_bundle(bundle).exit_code == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_manifest_that_was_cut_off_is_refused(bundle: Path, share: float) -> None:
    text = (bundle / MANIFEST).read_bytes()
    (bundle / MANIFEST).write_bytes(text[: int(share * len(text))])
    with pytest.raises(BundleRefused, match=r"manifest\.json is damaged: it is no JSON"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 2}',
        "[" * 100_000,
        "[]",
        "3",
        '{"schema": 1}',
        '{"schema": 1, "files": {"a": 3}}',
        '{"schema": 1, "files": {}}',
    ],
)
def test_another_schema_or_another_shape_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(BundleRefused, match=r"manifest\.json"):
        verify_bundle(tmp_path)


@pytest.mark.parametrize("field", ["engine", "target", "labels", "examples", "threads"])
def test_a_manifest_with_a_list_where_a_name_or_number_belongs_is_refused(bundle: Path, field: str) -> None:
    def spoil(manifest: dict[str, Any]) -> None:
        if field == "threads":
            manifest["engine"]["threads"] = ["1"]
        else:
            manifest[field] = ["x"]

    resealed(bundle, spoil)
    with pytest.raises(BundleRefused, match=r"manifest\.json"):
        verify_bundle(bundle)


def test_a_folder_that_is_no_bundle_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="is no bundle"):
        verify_bundle(tmp_path)
    with pytest.raises(BundleRefused, match="there is no folder"):
        verify_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "a/../../secret", "", ".", "a//b", "..\\secret", "a\0b"])
def test_a_name_that_leads_out_of_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleRefused, match="no file inside the bundle"):
        refuse_outside(tmp_path, name)


@pytest.mark.parametrize("field", ["engine", "labels", "examples", "files"])
def test_a_manifest_whose_name_escapes_is_refused_even_with_fitting_digests(bundle: Path, field: str) -> None:
    secret = bundle.parent / "secret"
    secret.write_text("secret")

    def escape(manifest: dict[str, Any]) -> None:
        if field == "engine":
            manifest["engine"]["file"] = "../secret"
        elif field == "files":
            manifest["files"]["../secret"] = hashlib.sha256(b"secret").hexdigest()
        else:
            manifest[field] = "../secret"

    resealed(bundle, escape)
    with pytest.raises(BundleRefused, match="secret"):
        verify_bundle(bundle)


def test_a_link_that_points_outside_is_refused_even_with_a_fitting_digest(bundle: Path) -> None:
    outside = bundle.parent / "labels elsewhere.json"
    shutil.move(bundle / "labels.json", outside)
    (bundle / "labels.json").symlink_to(outside)
    with pytest.raises(BundleRefused, match="link that points outside"):
        verify_bundle(bundle)


def test_an_engine_of_another_processor_is_not_run_and_model_onnx_answers_flagged(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = describe_machine()
    elsewhere = replace(here, cpu_features=(*here.cpu_features, "amx_tile_of_the_future"))
    monkeypatch.setattr("targets.engines.ort.describe_machine", lambda: elsewhere)
    found = verify_bundle(bundle)
    assert (found.asked, found.is_the_engine, found.exit_code) == ("model.onnx", False, 3)
    assert any("other features than this one (-amx_tile_of_the_future)" in remark for remark in found.remarks)
    assert any("model.onnx was asked instead" in remark for remark in found.remarks)
    assert found.answers.equal_answers == 1.0


def test_a_target_that_is_not_installed_is_said_and_never_imported(bundle: Path) -> None:
    trap = bundle.parent / "trap.py"
    trap.write_text(f"open({str(bundle.parent / 'sprung')!r}, 'w')")

    def lead_astray(manifest: dict[str, Any]) -> None:
        manifest["target"]["name"] = str(trap)

    resealed(bundle, lead_astray)
    found = verify_bundle(bundle)
    assert found.exit_code == 3
    assert "is not one of this installation" in found.remarks[0]
    assert not (bundle.parent / "sprung").exists()
    assert (found.operators.integer, found.operators.floating) == (1, 1)  # as the manifest says


def test_answers_that_are_not_the_engines_give_exit_code_1_and_their_difference(bundle: Path) -> None:
    with np.load(bundle / "examples.npz") as stored:
        arrays = dict(stored)
    arrays["outputs"][0] = -arrays["outputs"][0]
    np.savez(bundle / "examples.npz", **arrays)
    resealed(bundle)
    found = verify_bundle(bundle)
    assert (found.exit_code, found.identical) == (1, False)
    assert found.answers.equal_answers == 15 / 16
    assert found.answers.largest == pytest.approx(2 * np.abs(arrays["outputs"][0]).max(), rel=1e-6)  # float32
    assert "the same bits" in found.remarks[0]


def test_examples_that_hold_a_pickle_are_refused(bundle: Path) -> None:
    objects = np.array([{}], dtype=object)
    np.savez(bundle / "examples.npz", inputs=objects, outputs=objects)
    resealed(bundle)
    with pytest.raises(BundleRefused, match=r"examples\.npz cannot be read"):
        verify_bundle(bundle)


def test_run_passes_the_bundles_own_answer_and_exit_code_through(bundle: Path, capfd: Any, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (250, 10, 10)).save(tmp_path / "red.png")
    assert answer_with_bundle(bundle.parent, [tmp_path / "red.png"], top=2, threads=1, as_json=True) == 0
    said = json.loads(capfd.readouterr().out)
    assert len(said) == 1
    assert len(said[0]["top"]) == 2
    assert answer_with_bundle(bundle, [tmp_path / "none.png"]) == 2
    assert "none.png" in capfd.readouterr().err
    assert verify_bundle(bundle).exit_code == 0  # nothing was left behind in the folder


def test_run_refuses_a_damaged_bundle_before_it_runs_a_line_of_it(bundle: Path, tmp_path: Path) -> None:
    (bundle / "run.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    with pytest.raises(BundleRefused, match=r"changed: run\.py"):
        answer_with_bundle(bundle, [tmp_path / "red.png"])
    assert not (tmp_path / "sprung").exists()
