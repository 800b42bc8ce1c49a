"""Finish a bundle that holds no engine yet: build, measure and ask on the device, and write down what came of it.

`to_finish/order.json` of the bundle says what is wanted:

    schema 1 · target · runtime (tensorrt, onnxruntime) · threads, seed, samples
    engines     name → {"mode": "int8" or "float", "onnx": file, "takes": the type of its input, "float16": the same
                with floats in float16, or null}
    inputs      {"file": gzipped raw numbers, "name", "dtype", "shape"}; asked as the file that is built takes them

What came of it is one dictionary, the evidence:

    schema 1 · order_sha256 · facts · engines: name → {"engine": file, "build", "answers", "memory", "layers"} (or
    {"failed": why}) · times: the result of the job `measure`, and "order": the engines' names in its order

Who asks the device is a function: on the device itself a process per job, from elsewhere a job over the link.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.on_device.failures import OnDeviceFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    # (what, job, files: name → path, fetch: names, into, seconds at most) → result
    Ask = Callable[[str, Mapping[str, Any], Mapping[str, Path], Sequence[str], Path, float], dict[str, Any]]

ORDER = "to_finish/order.json"
SUFFIXES = {"onnxruntime": ".engine.onnx", "tensorrt": ".plan"}
BUILD_S, JOB_S = 7200.0, 1800.0
FLOAT16_FROM = 11  # the first TensorRT that takes the types of the file and no others
SCHEMA = 1


def finish(bundle: Path, ask: Ask, *, into: Path, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything the order wants; engines and raw answers lie in `into` afterwards.

    Raises what `ask` raises where the first engine cannot be built; a rival that cannot is left out, and said so.
    """
    order = order_of(bundle)
    into.mkdir(parents=True, exist_ok=True)
    known = dict(facts) if facts is not None else ask("facts", {}, {}, (), into, JOB_S)
    inputs, one = inputs_of(bundle, order, into, halved=wants_half(order, known))
    evidence: dict[str, Any] = {
        "schema": SCHEMA, "order_sha256": digest(bundle / ORDER), "facts": known, "engines": {}, "times": None,
    }  # fmt: skip
    built: dict[str, Path] = {}
    for place, (name, wanted) in enumerate(order["engines"].items()):
        try:
            engine, told = built_one(bundle, order, name, wanted, known, ask, into)
        except OnDeviceFailure as failure:
            if place == 0:
                raise
            evidence["engines"][name] = {"failed": failure.sentence}
            continue
        built[name] = engine
        evidence["engines"][name] = {"engine": engine.name, "build": told}
        job = asking(order, told, inputs)
        files = {engine.name: engine, inputs["file"]: into / inputs["file"]}
        answered = ask(
            "answer", {**job, "engine": engine.name, "count": inputs["shape"][0]}, files, ("*",), into, JOB_S
        )
        evidence["engines"][name]["answers"] = kept(answered["outputs"], name, into)
    one_input = {one["file"]: into / one["file"]}
    job = {
        **asking(order, {}, one), "engines": [path.name for path in built.values()],
        "identities": {path.name: evidence["engines"][name]["build"].get("identity") for name, path in built.items()},
    }  # fmt: skip
    engines = {path.name: path for path in built.values()}
    try:
        evidence["times"] = {**ask("measure", job, {**engines, **one_input}, (), into, JOB_S), "order": list(built)}
    except OnDeviceFailure as failure:  # an emulated processor, for one: what it answers still counts
        evidence["times"] = {"failed": failure.sentence}
    for name, path in built.items():
        told = evidence["engines"][name]
        job = {**asking(order, told["build"], one), "engine": path.name}
        for what in ("memory", "layers"):
            try:
                told[what] = ask(what, job, {path.name: path, **one_input}, (), into, JOB_S)
            except OnDeviceFailure as failure:
                told[what] = {"failed": failure.sentence}
    for left in (inputs["file"], one["file"]):
        (into / left).unlink()
    return evidence


def order_of(bundle: Path) -> dict[str, Any]:
    """What the bundle wants done.

    Raises:
        OnDeviceFailure: there is no order, or none that this version understands.
    """
    try:
        order = json.loads((bundle / ORDER).read_text(encoding="utf-8"))
        if order["schema"] != SCHEMA or not order["engines"] or order["runtime"] not in SUFFIXES:
            raise ValueError("it is of another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OnDeviceFailure(
            "usage",
            f"{bundle} has nothing to finish: {ORDER} cannot be read ({error}). Give a bundle without an engine.",
        ) from None
    return dict(order)


def built_one(
    bundle: Path, order: Mapping[str, Any], name: str, wanted: Mapping[str, Any], facts: Mapping[str, Any], ask: Ask,
    into: Path,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """The engine file of one form, and what the device said of it."""
    halved = typed_by_file(order, facts)
    source = bundle / str(wanted["float16"] if halved and wanted.get("float16") else wanted["onnx"])
    engine = f"{name}{SUFFIXES[order['runtime']]}"
    settings = {**settings_of(order), "mode": wanted["mode"], "typed": "strong" if halved else "weak"}
    job = {"runtime": order["runtime"], "onnx": "model.onnx", "engine": engine, "settings": settings}
    told = ask("build", job, {"model.onnx": source}, (engine,), into, BUILD_S)
    return into / engine, {**told, "float16": bool(halved), "source_sha256": digest(source)}


def asking(order: Mapping[str, Any], told: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What every job that asks an engine has in common."""
    return {
        "runtime": order["runtime"], "inputs": [dict(inputs)], "settings": settings_of(order),
        "identity": told.get("identity"),
    }  # fmt: skip


def settings_of(order: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the order's jobs; ONNX Runtime's part counts samples, TensorRT's iterations."""
    return {
        "threads": order["threads"],
        "seed": order["seed"],
        "samples": order["samples"],
        "iterations": order["samples"],
    }


def typed_by_file(order: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the builder takes the types of the file and no others."""
    return bool(order["runtime"] == "tensorrt" and major_version(facts) >= FLOAT16_FROM)


def wants_half(order: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the engines, all of one kind, read their floats in half precision."""
    form = next(iter(order["engines"].values()))
    halved = form.get("takes") == "float16" or (typed_by_file(order, facts) and bool(form.get("float16")))
    return halved and order["inputs"]["dtype"] == "float32"


def inputs_of(
    bundle: Path, order: Mapping[str, Any], into: Path, *, halved: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The evaluation inputs unpacked into `into`, and the first of them alone, as entries of a job."""
    said = {**order["inputs"], "dtype": "float16" if halved else order["inputs"]["dtype"]}
    with gzip.open(str(bundle / said["file"]), "rb") as packed, (into / "inputs.raw").open("wb") as plain:
        for part in iter(lambda: packed.read(1 << 20), b""):  # GzipFile.read gives less at the end alone
            plain.write(as_half(part) if halved else part)
    count = int(said["shape"][0])
    each = (into / "inputs.raw").stat().st_size // count
    with (into / "inputs.raw").open("rb") as plain:
        (into / "one.raw").write_bytes(plain.read(each))
    entry = {"name": said["name"], "dtype": said["dtype"]}
    whole = {**entry, "shape": list(said["shape"]), "file": "inputs.raw"}
    return whole, {**entry, "shape": [1, *said["shape"][1:]], "file": "one.raw"}


def as_half(raw: bytes) -> bytes:
    """float32 → float16; what lies beyond it becomes the largest of its sign, and no number stays none."""
    most = 65504.0
    values = struct.unpack(f"<{len(raw) // 4}f", raw)
    return struct.pack(f"<{len(values)}e", *(max(-most, min(most, each)) if each == each else each for each in values))


def kept(outputs: Sequence[Mapping[str, Any]], name: str, into: Path) -> list[dict[str, Any]]:
    """The answers under the name of their engine: the next engine's have the same names."""
    rows = []
    for place, each in enumerate(outputs):
        file = f"{name}-answers-{place}.raw"
        (into / str(each["file"])).replace(into / file)
        rows.append({**each, "file": file})
    return rows


def major_version(facts: Mapping[str, Any]) -> int:
    """Of TensorRT on the device; 0 where there is none."""
    version = str((facts.get("tensorrt") or {}).get("version") or "")
    first = version.split(".")[0]
    return int(first) if first.isdigit() else 0


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            found.update(part)
    return found.hexdigest()
