"""Finish a bundle that holds no engine yet: over a device that is reached, or from the evidence that one left in it.

What the device built and measured is judged as in a run: the same limits, the same intervals, the teacher's answers
from the same device. The integer engine is handed over unless the float engine is the faster one for certain; the
report says so. The inputs whose answers are scored here are of the test split: they judge, and choose nothing. The
bundle is replaced whole, with new digests.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle import json_with_rows, swap
from pipeline.errors import BundleRefused
from pipeline.finished_engine import put_engine
from pipeline.finished_manifest import finished
from pipeline.integrity import (
    MANIFEST,
    SIGNATURE,
    SUMS,
    bundle_at,
    digests_of,
    read_manifest,
    refuse_damaged,
    sums_text,
)
from pipeline.report import story_from
from pipeline.report_markdown import markdown_from
from pipeline.report_page import page_from
from pipeline.store import file_digest, refusal, write_bytes, write_json
from pipeline.to_finish import METRICS
from targets.budget import Budget, Limit
from targets.engines.raw_arrays import read_raw
from targets.engines.session import joined
from targets.engines.times_there import in_step
from targets.errors import DeviceFull, DeviceMissing, EngineFailed, EngineMissing, EngineRefused, TargetsError
from targets.intervals import Interval, quantile_interval
from targets.measurement import Accuracy, Latency, Measurement, Pairs
from targets.on_device.failures import OnDeviceFailure
from targets.on_device.finish import ORDER, digest, finish, order_of
from targets.on_device.judged_here import times_of
from targets.reach.conditions_there import conditions_there
from targets.reach.device import Device
from targets.target import Target
from targets.verdict import Verdict, verdicts_on

EVIDENCE = "evidence"
KINDS: tuple[tuple[type[TargetsError], str], ...] = (
    (EngineMissing, "missing"), (EngineRefused, "refused"), (EngineFailed, "failed"), (DeviceFull, "full"),
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """One engine of the evidence, measured: int8, float or teacher."""

    name: str
    measurement: Measurement
    verdicts: tuple[Verdict, ...]
    why_not: str = ""


def finish_bundle(
    place: Path, *, target: Target, device: Device | None, settings: Mapping[str, Any] | None = None
) -> tuple[Path, dict[str, Any]]:
    """Finish the bundle at `place`; gives its folder and its new manifest.

    device: the one that was reached; None takes the evidence that build_on_device.py left
    settings: of its measurements, such as that clocks are locked

    Raises:
        BundleRefused: it is damaged, has nothing to finish, or no evidence. DeviceMissing: the device is another kind.
        TargetsError: what the device says.
    """
    folder = bundle_at(place)
    manifest = read_manifest(folder)
    refuse_damaged(folder, manifest, beside=(f"{EVIDENCE}/",))
    try:
        order = order_of(folder)
    except OnDeviceFailure as failure:
        raise BundleRefused(failure.sentence) from failure
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        new = beside / "new"
        shutil.copytree(folder, new, ignore=shutil.ignore_patterns("__pycache__", EVIDENCE, SIGNATURE))
        evidence = _evidence(folder, new, order, target, device, settings or {})
        try:
            refuse_strange_names(evidence)
            forms, best = judged(order, evidence, new / EVIDENCE, _limits(order["limits"]))
            _fill(new, manifest, order, evidence, forms, best)
        except (LookupError, TypeError, ValueError, AttributeError, FileNotFoundError, EngineFailed) as error:
            if device is not None:
                raise
            raise BundleRefused(
                f"the evidence in {folder} is damaged ({type(error).__name__}: {error}). Run its build_on_device.py "
                "again."
            ) from error
        swap(new, folder)
    except OSError as error:
        raise refusal(folder, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder, read_manifest(folder)


def _evidence(
    folder: Path,
    new: Path,
    order: Mapping[str, Any],
    target: Target,
    device: Device | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What the device did, in the new bundle's folder of evidence."""
    if device is None:
        path = folder / EVIDENCE / "evidence.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            told = found["order_sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleRefused(
                f"{folder} has no evidence of a device ({error}). Run build_on_device.py of the bundle on the device, "
                "or name the device with --device."
            ) from error
        if told != digest(folder / ORDER):
            raise BundleRefused(f"the evidence in {folder} is of another bundle. Run its build_on_device.py again.")
        _refuse_other(target, found["facts"], "which left the evidence")
        shutil.copytree(folder / EVIDENCE, new / EVIDENCE)
        return found
    _refuse_other(target, device.facts(), device.address)

    def ask(
        what: str, job: Mapping[str, Any], files: Mapping[str, Path], fetch: Sequence[str], into: Path, limit_s: float
    ) -> dict[str, Any]:
        try:
            if what == "measure":
                job = {**job, "settings": {**job["settings"], **settings}}
            return device.job(what, job, files=files, fetch=fetch, into=into, limit_s=limit_s)
        except tuple(kind for kind, _ in KINDS) as error:
            raise OnDeviceFailure(next(word for kind, word in KINDS if isinstance(error, kind)), str(error)) from error

    try:
        found = finish(new, ask, into=new / EVIDENCE, facts=device.facts())
    except OnDeviceFailure as failure:
        raise EngineFailed(failure.sentence) from failure
    write_json(new / EVIDENCE / "evidence.json", found)
    return found


def refuse_strange_names(evidence: Mapping[str, Any]) -> None:
    """Pass evidence whose files lie beside it.

    Raises:
        ValueError: a name leads elsewhere.
    """
    for engine in evidence["engines"].values():
        for name in (engine.get("engine"), *(each["file"] for each in engine.get("answers", ()))):
            if name is not None and (not isinstance(name, str) or Path(name).name != name):
                raise ValueError(f"{name!r} is no file of it")


def _refuse_other(target: Target, facts: Mapping[str, Any], who: str) -> None:
    why = "this target is no device elsewhere" if target.fits is None else target.fits(facts)
    if why:
        raise DeviceMissing(f"The device {who} is not a {target.name}: {why}.")


def _limits(rows: Sequence[Mapping[str, Any]]) -> Budget:
    return Budget(tuple(Limit(each["limit"], float(each["bound"]), str(each["origin"])) for each in rows))


def judged(
    order: Mapping[str, Any], evidence: Mapping[str, Any], folder: Path, budget: Budget
) -> tuple[list[Form], Form]:
    """Every engine but the teacher's, held against the budget, and the one to hand over."""
    engines, times = evidence["engines"], evidence["times"] or {}
    scores = {name: _scores(order, engine, folder) for name, engine in engines.items() if "answers" in engine}
    samples = {} if times.get("failed") else {name: tuple(times_of(times, name)) for name in times["order"]}
    forms: list[Form] = []
    for name in engines:
        if name != "teacher" and "answers" in engines[name]:
            taken = _measurement(name, order, evidence, scores, samples, folder)
            held = verdicts_on(taken, budget=budget, teacher=scores.get("teacher"))
            forms.append(Form(name, taken, held))
    return _chosen(forms)


def _chosen(forms: Sequence[Form]) -> tuple[list[Form], Form]:
    """The first form, unless the next is faster for certain; reasons for the other."""
    best = forms[0]
    for other in forms[1:]:
        ratio = _ratio(best.measurement.latency, other.measurement.latency)
        if ratio is not None and ratio.low > 1:
            best = other
    told = []
    for form in forms:
        ratio = _ratio(best.measurement.latency, form.measurement.latency)
        words = "its times are not known"
        if ratio is not None:
            words = f"{ratio.low:.2f} to {ratio.high:.2f} times as fast as what is handed over"
        told.append(form if form is best else Form(form.name, form.measurement, form.verdicts, words))
    return told, best


def _ratio(reference: Latency | None, candidate: Latency | None) -> Interval | None:
    """How many times as fast the candidate is, by both medians' bounds."""
    if reference is None or candidate is None:
        return None
    one, two = (quantile_interval(each.samples_ms, 0.5, confidence=0.975) for each in (reference, candidate))
    return Interval(one.low / two.high, one.high / two.low)


def _scores(order: Mapping[str, Any], engine: Mapping[str, Any], folder: Path) -> Accuracy | None:
    metric = METRICS.get(str(order.get("metric")))
    if metric is None or not order.get("labels"):
        return None
    answers = joined([read_raw(entry, folder) for entry in engine["answers"]])
    return Accuracy(tuple(metric(answers, np.asarray(order["labels"])).tolist()))


def _measurement(
    name: str, order: Mapping[str, Any], evidence: Mapping[str, Any], scores: Mapping[str, Accuracy | None],
    samples: Mapping[str, tuple[float, ...]], folder: Path,
) -> Measurement:  # fmt: skip
    """Everything that the device measured of one engine."""
    engine, times, missing = evidence["engines"][name], evidence["times"] or {}, dict[str, str]()
    conditions = conditions_there(
        evidence["facts"], target=str(order["target"]), runtime=str(engine["build"].get("runtime")),
        threads=int(order["threads"]), batch=1, warmup_runs=0, samples=len(samples.get(name, ())),
    )  # fmt: skip
    told = {**(conditions.device or {}), "before": times.get("before"), "after": times.get("after")}
    conditions = replace(conditions, device=told, unstable=tuple(times.get("unstable", ())))
    latency = Latency(samples[name], conditions) if samples.get(name) else None
    pairs = Pairs(*_in_step(times["runs"], ("teacher", name))) if latency and samples.get("teacher") else None
    why = f"not measured: {times.get('failed', 'the device sent no times')}"
    memory = engine.get("memory") or {}
    if latency is None:
        missing["latency"] = why
    if pairs is None:
        missing["pairs"] = why if latency is None else "the teacher has no engine on the device"
    if scores.get(name) is None:
        missing["accuracy"] = "the bundle does not say how answers are scored"
    if memory.get("peak_bytes") is None:
        missing["peak_memory_bytes"] = str(memory.get("failed", "the device sent none"))
    missing |= dict.fromkeys(("parameters", "macs"), "a number of the network, not of the engine")
    return Measurement(
        conditions=conditions, accuracy=scores.get(name), latency=latency, pairs=pairs,
        size_bytes=(folder / str(engine["engine"])).stat().st_size, peak_memory_bytes=memory.get("peak_bytes"),
        missing=missing,
    )  # fmt: skip


def _in_step(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """The times of each, as many of one as of the other; files are called by their engine."""
    return in_step([{**run, "engine": str(run["engine"]).split(".")[0]} for run in runs], names)


def _fill(
    new: Path, manifest: dict[str, Any], order: Mapping[str, Any], evidence: Mapping[str, Any], forms: Sequence[Form],
    best: Form,
) -> None:  # fmt: skip
    """The new bundle: engine, manifest, report, digests; whoever signed the old ones did not see these."""
    engine, teacher = evidence["engines"][best.name], _teacher(order, evidence, new / EVIDENCE)
    *before, last = manifest["stages"]
    own = verdicts_on(best.measurement, budget=_limits(last.get("verdicts", ())), teacher=teacher)
    manifest = {**manifest, "stages": [*before, {**last, "verdicts": [each.as_json() for each in own]}]}
    file = put_engine(new, new / EVIDENCE, best.name, order=order, found=evidence)
    told = finished(
        manifest, order=order, engine=engine, file=file,
        rows=[{"name": each.name, "measurement": each.measurement, "why_not": each.why_not} for each in forms],
        best=best.measurement, verdicts=best.verdicts, teacher=teacher,
    )  # fmt: skip
    write_json(new / "result.json", {**json.loads((new / "result.json").read_text(encoding="utf-8")), **told.result})
    story = story_from(told.manifest)
    write_bytes(new / "report.md", markdown_from(story).encode())
    write_bytes(new / "report.html", page_from(story).encode())
    listed = digests_of(new)
    first = {name: told.manifest[name] for name in ("schema", "created_by")}
    write_bytes(new / MANIFEST, json_with_rows({**first, **told.manifest, "files": listed}).encode())
    write_bytes(new / SUMS, sums_text(listed, manifest=file_digest(new / MANIFEST)).encode())


def _teacher(order: Mapping[str, Any], evidence: Mapping[str, Any], folder: Path) -> Accuracy | None:
    engine = evidence["engines"].get("teacher") or {}
    return _scores(order, engine, folder) if "answers" in engine else None
