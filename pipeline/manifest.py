"""What the manifest of a bundle says, gathered from a finished run; `bundle.py` specifies it.

It is plain JSON data, without a path of the machine it was made on.
"""

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import onnx

from pipeline.candidate import Candidate, Form
from pipeline.data.dataset import Dataset, inputs_for_network
from pipeline.data.onnx_door import kind_of
from pipeline.integrity import SCHEMA
from pipeline.journey import Journey, StageResult
from pipeline.plan import Plan
from pipeline.store import file_digest, settings_of
from targets.engines.session_told import session_told
from targets.errors import TargetsError
from targets.measurement import Conditions
from targets.reach.local import cpu_features

PACKAGES = (
    "edge-compress", "torch", "onnx", "onnxruntime", "numpy",
    "pytorch-quantization", "torch-pruning", "lightning-fabric",
)  # fmt: skip
BULKY = ("shapes", "operators")  # facts that only the pipeline needs, or that stand under `engine`


def manifest_from(plan: Plan, journey: Journey, *, dataset: Dataset, engine: Path) -> dict[str, Any]:
    """The manifest but for its `files`.

    engine: the engine file in the bundle, to look into and to time by layer
    """
    places = places_of(plan)
    stages = [portable(stage_as_json(result), places=places) for result in journey.results]
    outcome = journey.as_json(target=plan.target.name, recipe=plan.recipe.name, seed=plan.seed, bundle=".")
    versions = {name: version_of(name) for name in PACKAGES}
    conditions = conditions_of(journey.last)
    manifest = {
        "schema": SCHEMA,
        "created_by": f"edge-compress {versions['edge-compress']}",
        "target": {"name": plan.target.name, "summary": plan.target.summary},
        "recipe": {
            "name": plan.recipe.name,
            "summary": plan.recipe.summary,
            "file_sha256": file_digest(plan.recipe_file) if plan.recipe_file else None,
            "settings": without_folders(settings_of(plan.recipe)),
        },
        "seed": plan.seed,
        "epochs_scale": plan.epochs_scale,
        "threads": plan.threads,
        "versions": {**versions, "python": platform.python_version()},
        "exit_code": outcome["exit_code"],
        "speedup": outcome["speedup"],
        "accuracy_drop_points": outcome["accuracy_drop_points"],
        "verdicts": outcome["verdicts"],
        "estimate": outcome["estimate"],
        "engine": engine_as_json(plan, journey, dataset, engine, conditions),
        "quantization": quantization_of(journey.last.candidate),
        "input": input_as_json(onnx_file(journey.last.candidate), dataset),
        "outputs": outputs_as_json(onnx_file(journey.last.candidate)),
        "classes": dataset.classes,
        "labels": "labels.json",
        "examples": "examples.npz",
        "data": {
            "name": dataset.name,
            "digest": dataset.digest,
            **{split.name: len(split) for split in dataset.splits},
            "skipped": len(dataset.skipped),
        },
        "conditions": None if conditions is None else _plain(conditions),
        "stages": stages,
    }
    return dict(finite(manifest))


def stage_as_json(result: StageResult) -> dict[str, Any]:
    """A row of the `--json` output, every sample behind it, and what the stage says about its result."""
    facts = {name: settings_of(fact) for name, fact in result.candidate.facts.items() if name not in BULKY}
    return {**result.as_json(), "measurement": result.measurement.as_json(), "facts": facts}


def engine_as_json(
    plan: Plan, journey: Journey, dataset: Dataset, engine: Path, conditions: Conditions | None
) -> dict[str, Any]:
    """The engine: what it is made of, where its time goes, and what it was built for."""
    said = journey.last.candidate.facts.get("runtime")
    runtime = plan.target.engine_of(said)
    operators = runtime.operators(engine)
    why_float = journey.last.candidate.facts.get("why_float") or {}
    times: list[Any] = []
    why = ""
    try:
        one = inputs_for_network(dataset, dataset.test.inputs[:1])
        times = [_plain(layer) for layer in runtime.layer_times(engine, one, threads=plan.threads)]
    except (TargetsError, OSError) as error:
        why = portable(str(error), places=places_of(plan))
    return {
        "file": engine.name,
        "runtime": said or runtime.runtime,
        "threads": plan.threads,
        "session": session_told(runtime, engine, threads=plan.threads),
        "integer_ops": operators.integer,
        "float_ops": operators.floating,
        "cpu_features": features_built_for(plan, conditions),
        "operators": [_plain(replace(row, why=why_float.get(row.name, row.why))) for row in operators.rows],
        "layer_times": times,
        "layer_times_missing": why,
    }


def features_built_for(plan: Plan, conditions: Conditions | None) -> list[str]:
    """Of the processor that the engine was built for: none is known of a device that is not here."""
    if not plan.target.is_here():
        return []
    return list(conditions.cpu_features if conditions else cpu_features())


def quantization_of(candidate: Candidate) -> dict[str, Any] | None:
    """What was kept in floating point and why, and the integer scheme; None when nothing was quantized."""
    for ancestor in candidate.ancestry():
        if "placement" in ancestor.facts:
            placement = settings_of(ancestor.facts["placement"])
            return {"kept_float": placement["kept_float"], "scheme": settings_of(ancestor.facts["scheme"])}
    return None


def input_as_json(model: Path, dataset: Dataset) -> dict[str, Any]:
    """The network's one input, and how an image becomes it."""
    preprocess = None if dataset.preprocess is None else dataset.preprocess.as_json()
    door = onnx.load(model, load_external_data=False).graph.input[0]
    return {
        "name": door.name,
        "shape": [1, *dataset.input_shape],
        "dtype": kind_of(door),
        "preprocess": preprocess,
    }


def outputs_as_json(model: Path) -> list[dict[str, Any]]:
    """The network's outputs for one input; an axis whose length the file does not say is null."""
    graph = onnx.load(model, load_external_data=False).graph
    return [
        {"name": each.name, "shape": [axis.dim_value or None for axis in each.type.tensor_type.shape.dim]}
        for each in graph.output
    ]


def onnx_file(candidate: Candidate) -> Path:
    """The ONNX file that the engine was built from: the canonical one, before it was lowered for the target."""
    source = candidate.facts.get("source")
    if source is not None and (candidate.path.parent / source).is_file():  # the float rival was the faster one
        return candidate.path.parent / str(source)
    return next(ancestor.path for ancestor in candidate.ancestry() if ancestor.form is Form.ONNX)


def conditions_of(result: StageResult) -> Conditions | None:
    """The conditions of the row's latency, or of the row."""
    measured = result.measurement
    return measured.latency.conditions if measured.latency is not None else measured.conditions


def version_of(package: str) -> str:
    """The installed version, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def places_of(plan: Plan) -> tuple[Path, ...]:
    """Folders of this machine whose names must not leave it, the longest first."""
    named = [plan.out, plan.data, plan.recipe_file.parent if plan.recipe_file else None, Path.cwd(), Path.home()]
    whole = {place for given in named if given is not None for place in (given, given.resolve()) if place.is_absolute()}
    return tuple(sorted((place for place in whole if len(place.parts) > 1), key=lambda place: -len(str(place))))


def portable(value: Any, *, places: Sequence[Path]) -> Any:
    """`value` with the folders in `places` cut down to their last name, in every text within."""
    if isinstance(value, str):
        for place in places:
            value = value.replace(str(place), place.name)
        return value
    return _within(value, lambda inner: portable(inner, places=places))


def without_folders(value: Any) -> Any:
    """`value` with every text that is an absolute path cut down to the name of its file."""
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if path.is_absolute():
                return path.name
        return value
    return _within(value, without_folders)


def finite(value: Any) -> Any:
    """`value` with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _within(value, finite)


def _within(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: change(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [change(inner) for inner in value]
    return value


def _plain(row: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON data, without its name."""
    return {name: value for name, value in settings_of(row).items() if name != "is"}
