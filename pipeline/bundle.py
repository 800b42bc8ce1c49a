"""The folder that a run hands over: an engine that answers by itself, and the evidence of what it does.

A bundle is a folder without links, readable by everyone, without a path of the machine that made it. Schema 1:

    manifest.json   everything below, as JSON
    SHA256SUMS      the digest of every other file, manifest.json included: `sha256sum -c SHA256SUMS`
    model.onnx      the network as exported: what an engine for another machine is built from
    engine.*        the engine file that was measured, of the runtime that manifest.json names; for a target that was
                    not here lowered.onnx in its place: what the device builds its engine from
    engine.*.json   only where a device built it: what built it (identity), which is compared before the engine is
                    opened, its input and its layers
    labels.json     the names of the K classes, in the order of the network's answers; none where these name no class
    examples.npz    the first 16 test inputs: inputs (16, …) as the network takes them, float32, int64 or int32;
                    outputs, what the engine answers to them, asked all at once, several outputs flattened and side by
                    side; labels, int64 (16,), where there are classes
    on_device.pyz   only where TensorRT is the runtime: what asks it, on the device
    to_finish/, build_on_device.py     only where no device was given: what it needs to build and measure the engine by
                    itself (to_finish.py) · evidence/: what it left (finish_bundle.py)
    run.py, …       answers image files with the engine; stands alone, with the files it imports beside it
    result.json     the `--json` output of the run (schema in journey.py)
    report.html     the report for a browser or a printer · report.md: the same as text
    SHA256SUMS.sig  only where somebody signed it: `compress sign` (signing.py); in none of the lists

manifest.json

    schema, created_by · files: name → SHA-256, of every file but manifest.json and SHA256SUMS
    target: name, summary · recipe: name, summary, settings, file_sha256 (of a user's own file, or null)
    seed, epochs_scale, threads · versions: package → version
    exit_code, speedup, accuracy_drop_points, verdicts, estimate: as in result.json
    engine: file, runtime, threads, session (its settings, or null), integer_ops, float_ops,
            cpu_features (of the machine it was built for),
            operators: name, kind, integer, why (of every convolution and matrix product),
            layer_times: name, kind, integer, median_ms · layer_times_missing: why there are none, or ""
    quantization: kept_float (layer → why), scheme; or null
    input: name, shape, dtype, preprocess (null: not an image) · outputs: name, shape, for one input
    classes: K, or 0 where the answers name no class
    labels, examples: names of files · data: name, digest, inputs per split, skipped
    conditions: of the last row's latency, or null
    stages: rows as in result.json, and per row measurement (all samples and scores) and facts (what the stage says)

A bundle is made in a folder beside its place and renamed into it: half a bundle never stands there.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.candidate import Form
from pipeline.data import preprocess
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.data.onnx_door import taken_by
from pipeline.errors import OutRefused
from pipeline.handover import run as runner
from pipeline.integrity import MANIFEST, SUMS, digests_of, sums_text
from pipeline.journey import Journey
from pipeline.manifest import finite, manifest_from, onnx_file, places_of, portable
from pipeline.plan import Plan
from pipeline.report import story_from
from pipeline.report_markdown import markdown_from
from pipeline.report_page import page_from
from pipeline.store import file_digest, refusal, write_bytes, write_json, written_atomically
from pipeline.to_finish import PART, write_what_is_to_finish
from targets.engines.elsewhere import SUFFIXES, TENSORRT, beside_engine
from targets.reach.device_part import packed
from targets.runner import Engine

EXAMPLES = 16


def write_bundle(plan: Plan, journey: Journey, *, dataset: Dataset) -> Path:
    """Write `plan.bundle`; one that is there is replaced. Gives its folder.

    Raises:
        OutRefused: the folder cannot be written, or what stands there is no bundle.
    """
    place = plan.bundle
    refuse_foreign_folder(place)
    beside = place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(f".{place.name}.*"):  # by a run that was killed
            shutil.rmtree(left)
        beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.")) / "new"
        beside.mkdir()
        fill(beside, plan, journey, dataset)
        swap(beside, place)
    except OSError as error:
        raise refusal(place, error) from error
    finally:
        if beside != place:
            shutil.rmtree(beside.parent, ignore_errors=True)
    return place


def fill(folder: Path, plan: Plan, journey: Journey, dataset: Dataset) -> None:
    """Write every file of the bundle, the manifest last."""
    last = journey.last.candidate
    if last.form is not Form.ENGINE:
        raise TypeError(f"a bundle holds an engine, and this run ended with {last.form.value}")
    engine = folder / f"{'engine' if plan.target.is_here() else 'lowered'}{last.path.suffix}"
    copy(last.path, engine)
    if beside_engine(last.path).is_file():  # what the device said of it
        copy(beside_engine(last.path), beside_engine(engine))
    copy(onnx_file(last), folder / "model.onnx")
    copy(Path(runner.__file__), folder / "run.py")
    for name in runner.OWN:
        copy(Path(runner.__file__).parent / name, folder / name)
    for name in runner.BESIDE:
        copy(Path(preprocess.__file__).parent / name, folder / name)
    write_json(folder / "labels.json", list(dataset.labels))
    runtime = plan.target.engine_of(last.facts.get("runtime"))
    write_examples(folder / "examples.npz", engine, plan, dataset, runtime=runtime, kind=taken_by(onnx_file(last)).kind)
    if engine.suffix == SUFFIXES[TENSORRT]:  # run.py asks it through our part
        write_bytes(folder / PART, packed())
    if not plan.target.is_here() and plan.target.answers:
        write_what_is_to_finish(folder, plan, journey, dataset)
    result = journey.as_json(target=plan.target.name, recipe=plan.recipe.name, seed=plan.seed, bundle=".")
    write_json(folder / "result.json", finite(portable(result, places=places_of(plan))))
    manifest = manifest_from(plan, journey, dataset=dataset, engine=engine)
    story = story_from(manifest)
    write_bytes(folder / "report.md", markdown_from(story).encode())
    write_bytes(folder / "report.html", page_from(story).encode())
    listed = digests_of(folder)
    first = {name: manifest[name] for name in ("schema", "created_by")}
    write_bytes(folder / MANIFEST, json_with_rows({**first, "files": listed, **manifest}).encode())
    write_bytes(folder / SUMS, sums_text(listed, manifest=file_digest(folder / MANIFEST)).encode())


def write_examples(path: Path, engine: Path, plan: Plan, dataset: Dataset, *, runtime: Engine, kind: str) -> None:
    """The first test inputs and the engine's answers to them: what `compress verify` asks again.

    kind: what the network's inputs are made of
    """
    inputs = inputs_for_network(dataset, dataset.test.inputs[:EXAMPLES]).astype(kind, copy=False)
    with closing(runtime.open(engine, threads=plan.threads)) as ask:
        outputs = ask(inputs)
    with written_atomically(path) as beside, beside.open("wb") as file:
        arrays = {"inputs": inputs, "outputs": outputs}
        if dataset.classes:
            arrays["labels"] = dataset.test.labels[:EXAMPLES]
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def with_answers(path: Path, outputs: np.ndarray) -> None:
    """The same examples with other answers, those of an engine that was built later; as many as there are of both."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name][: len(outputs)] for name in stored.files}
    arrays["outputs"] = outputs[: len(arrays["inputs"])]
    with written_atomically(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def swap(beside: Path, place: Path) -> None:
    """Put the finished folder in its place; what stood there goes."""
    beside.chmod(0o755)
    if place.exists() or place.is_symlink():
        place.rename(beside.with_name("old"))
    beside.rename(place)


def refuse_foreign_folder(place: Path) -> None:
    """Pass a free place, an empty folder, or a bundle.

    Raises:
        OutRefused: something else stands there, and would be lost.
    """
    if place.is_dir() and not (place / MANIFEST).is_file() and any(place.iterdir()):
        raise OutRefused(f"{place} holds files and is no bundle. Move it away, or choose another folder with --out.")
    if place.exists() and not place.is_dir():
        raise OutRefused(f"{place} is in the way: a bundle is a folder. Move it away, or choose another with --out.")


def copy(source: Path, goal: Path) -> None:
    """Copy a file's bytes to the disk; neither its owner nor its rights come along."""
    write_bytes(goal, source.read_bytes())


def json_with_rows(value: Mapping[str, Any]) -> str:
    """JSON over many lines, but each list of numbers on one; NaN is refused."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    # A line break never stands inside a JSON string, so what is matched is a list that holds no text and no list.
    return re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"
