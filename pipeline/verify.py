"""Check a bundle where it is now: every digest, and the engine's answers to the inputs that it carries."""

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import BundleRefused
from pipeline.examples_file import examples_in
from pipeline.graph.compare import Agreement, agreement
from pipeline.integrity import REPAIR, bundle_at, read_manifest, refuse_damaged
from pipeline.manifest import finite
from pipeline.signing import EVIDENCE, refuse_unvouched
from targets.engines.absent import is_unbuilt
from targets.engines.ort import open_onnx
from targets.errors import DeviceLost, DeviceMissing, TargetsError
from targets.find import target_named, target_names
from targets.reach.local import describe_machine
from targets.reach.reached import Reached
from targets.runner import Engine, OperatorRow, Operators


@dataclass(frozen=True)
class Verification:
    """What was found.

    files: how many were held against their digests, all of them sound · asked: the file that answered
    is_the_engine: whether that was the engine, and not model.onnx in its place · identical: every answer, bit by bit
    answers: the stored answers against the new ones · operators: the engine's convolutions and matrix products
    remarks: what the reader must know, a sentence each · classes: whether the answers name classes
    unbuilt: the target was not there, and the bundle holds what it builds its engine from
    """

    bundle: Path
    files: int
    asked: str
    is_the_engine: bool
    identical: bool
    answers: Agreement
    operators: Operators
    remarks: tuple[str, ...]
    classes: bool = True
    unbuilt: bool = False

    @property
    def exit_code(self) -> int:
        """0: the engine gives the stored answers · 1: another best class or other values · 3: it could not be asked."""
        if not self.is_the_engine:
            return 3
        return 0 if self.answers.equal_answers == 1 else 1

    @property
    def summary(self) -> str:
        """The result in two sentences."""
        count = self.answers.inputs
        equal = round(self.answers.equal_answers * count)
        if self.identical:
            said = f"{self.asked} gives the stored answers to all {count} inputs, bit by bit"
        elif not self.classes:
            said = (
                f"{self.asked} gives the stored values, to a tenth of their deviation, to {equal} of {count} inputs; "
                f"the largest difference is {self.answers.largest:.3g}, at answers of {self.answers.scale:.3g} (RMS)"
            )
        else:
            said = (
                f"{self.asked} gives the stored best class to {equal} of {count} inputs; "
                f"the largest difference is {self.answers.largest:.3g}, at answers of {self.answers.scale:.3g} (RMS)"
            )
        total = self.operators.integer + self.operators.floating
        where = "of the file are quantized" if self.unbuilt else "of the engine multiply integers"
        return (
            f"{self.files} files are whole; {said}. {self.operators.integer} of {total} convolutions and matrix "
            f"products {where}."
        )

    @property
    def in_float(self) -> tuple[str, ...]:
        """A line for each convolution and matrix product of the engine that multiplies floats, with the reason."""
        return tuple(f"in float: {row.name} ({row.kind}): {row.why}" for row in self.operators.rows if not row.integer)

    def as_json(self) -> dict[str, Any]:
        """For `compress verify --json`."""
        found = {
            "schema": 1,
            "bundle": str(self.bundle),
            "exit_code": self.exit_code,
            "files": self.files,
            "asked": self.asked,
            "is_the_engine": self.is_the_engine,
            "identical": self.identical,
            "answers": asdict(self.answers),
            "operators": asdict(self.operators) | {"rows": [asdict(row) for row in self.operators.rows]},
            "remarks": list(self.remarks),
            "summary": self.summary,
        }
        return dict(finite(found))


def verify_bundle(folder: Path, *, device: Reached | None = None, signers: Path | None = None) -> Verification:
    """Check the bundle in `folder`, or in `folder/bundle`.

    device: where the engine is asked; None: on this machine · signers: one of them must have signed it

    Raises:
        BundleRefused: it is no bundle, or damaged: every file that is missing, changed or not listed is named; or it is
            not signed as asked for. DeviceMissing, DeviceLost: the device is of another kind, or is gone.
    """
    folder = bundle_at(folder)
    manifest = read_manifest(folder)
    files = refuse_damaged(folder, manifest, beside=EVIDENCE)
    refuse_unvouched(folder, signers=signers)
    inputs, expected = examples_in(folder / manifest["examples"])
    runtime, remarks = runtime_of(manifest, device)
    engine = folder / manifest["engine"]["file"]
    given: np.ndarray | None = None
    if runtime is not None:
        try:
            given = answers_of(runtime, engine, inputs, threads=manifest["engine"]["threads"])
        except TargetsError as error:
            if isinstance(error, DeviceLost):
                raise
            remarks.append(f"{str(error).rstrip('.')}.")
            if isinstance(error, DeviceMissing) and not is_unbuilt(str(manifest["engine"].get("runtime"))):
                remarks.append("With --device ADDRESS the engine is asked where it was built.")
    asked = engine.name
    if given is None:
        asked = "model.onnx"
        remarks.append(
            "model.onnx was asked instead of the engine. The bundle's measurements say nothing about this machine."
        )
        with closing(open_onnx(folder / asked, threads=manifest["engine"]["threads"])) as ask:
            given = ask(inputs)
    if given.shape != expected.shape:
        raise BundleRefused(
            f"{asked} gives answers of shape {given.shape}, and those in {manifest['examples']} have {expected.shape}: "
            f"the two do not belong together. {REPAIR}"
        )
    sizes = sizes_in(manifest, answer=expected.shape[1:])
    identical = given.dtype == expected.dtype and given.tobytes() == expected.tobytes()
    if asked == engine.name and not identical:
        remarks.append(difference_explained(manifest, device))
    return Verification(
        bundle=folder, files=files, asked=asked, is_the_engine=asked == engine.name, identical=identical,
        answers=agreement(expected, given, sizes=sizes), operators=operators_in(runtime, engine, manifest),
        remarks=tuple(remarks), classes=sizes is None, unbuilt=is_unbuilt(str(manifest["engine"].get("runtime"))),
    )  # fmt: skip


def runtime_of(manifest: Mapping[str, Any], device: Reached | None = None) -> tuple[Engine | None, list[str]]:
    """The engine's runtime on the bundle's target, which is looked up by name alone: no file is run for it.

    device: where the engine is asked; None: on this machine
    """
    name, runtime = manifest["target"].get("name"), str(manifest["engine"].get("runtime"))
    if device is not None and is_unbuilt(runtime):
        return None, [
            "The bundle holds no engine yet: `compress build BUNDLE --device ADDRESS` has the device build it."
        ]
    if name in target_names():
        target = target_named(name)
        return (target if device is None else target.through(device)).engine_of(runtime), []
    return None, [f"The target {name!r} is not one of this installation ({', '.join(target_names())})."]


def sizes_in(manifest: Mapping[str, Any], *, answer: tuple[int, ...]) -> tuple[int, ...] | None:
    """How many numbers each output has where the answers name no class (compare.py); None for classes.

    answer: the shape of a stored one
    """
    if manifest.get("classes", 1) != 0:  # bundles of before name classes
        return None
    whole = math.prod(answer)
    try:
        sizes = tuple(math.prod(length or 0 for length in each["shape"][1:]) for each in manifest["outputs"])
    except (KeyError, TypeError):
        return (whole,)
    return sizes if sum(sizes) == whole else (whole,)


def answers_of(runtime: Engine, engine: Path, inputs: np.ndarray, *, threads: int) -> np.ndarray:
    """The engine's answers, asked all at once, as they were when the bundle was made."""
    with closing(runtime.open(engine, threads=threads)) as ask:
        return ask(inputs)


def operators_in(runtime: Engine | None, engine: Path, manifest: Mapping[str, Any]) -> Operators:
    """What the engine file holds, with the manifest's reasons; as the manifest says where it cannot be looked into."""
    said = manifest["engine"]
    if runtime is not None:
        try:
            found = runtime.operators(engine)
        except TargetsError:
            pass
        else:
            return with_reasons(found, said.get("operators"))
    try:
        rows = tuple(OperatorRow(**row) for row in said["operators"])
        return Operators(int(said["integer_ops"]), int(said["float_ops"]), rows)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleRefused(
            f"the manifest of {engine.parent} does not list the engine's operators. {REPAIR}"
        ) from error


def with_reasons(found: Operators, said: Any) -> Operators:
    """What the build knew of why an operator is in float: the engine's file alone does not tell."""
    if not isinstance(said, list):
        return found
    reasons = {
        (row.get("name"), row.get("kind")): str(row["why"])
        for row in said
        if isinstance(row, dict) and row.get("integer") is False and row.get("why")
    }
    rows = tuple(
        row if row.integer else replace(row, why=reasons.get((row.name, row.kind), row.why)) for row in found.rows
    )
    return replace(found, rows=rows)


def difference_explained(manifest: Mapping[str, Any], device: Reached | None = None) -> str:
    """Why an engine that opens may still answer with other last bits."""
    if device is not None:
        return f"The engine was asked on {device.address}: the last bits may differ, the best class should not."
    machine, said = describe_machine(), manifest.get("conditions")
    made_on = said if isinstance(said, dict) else {}
    if machine.cpu == made_on.get("cpu"):
        return (
            "The processor and the runtime are those the bundle was made with, so the answers should be the same bits."
        )
    return (
        f"The bundle was made on {made_on.get('cpu', 'a processor that was not recorded')}, this is {machine.cpu}: "
        "the last bits may differ, the best class should not."
    )


def answer_with_bundle(
    folder: Path,
    paths: Sequence[Path],
    *,
    top: int = 5,
    threads: int | None = None,
    as_json: bool = False,
    save: Path | None = None,
) -> int:
    """Answer files with the bundle's own run.py, in a process of its own, after checking every digest.

    Its output goes where ours goes; gives its exit code.

    Raises:
        BundleRefused: it is no bundle, or damaged.
    """
    folder = bundle_at(folder)
    refuse_damaged(folder, read_manifest(folder), beside=EVIDENCE)
    flags = ["--top", str(top)]
    flags += ["--threads", str(threads)] if threads is not None else []
    flags += ["--json"] if as_json else []
    flags += ["--save", str(save)] if save is not None else []
    # -B: no cache of compiled files is left in the bundle. --: a file may begin with a dash.
    command = [sys.executable, "-B", str(folder / "run.py"), *flags, "--", *(str(path) for path in paths)]
    sys.stdout.flush()
    return subprocess.run(command, check=False).returncode
