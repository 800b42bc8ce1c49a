"""Two bundles that a gate may compare: whole, for one target, with one kind of input, both engines answering.

They answer here or on a device that was reached. Where the target is neither, nobody asks them, and no time is taken.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BundleRefused, UsageRefused
from pipeline.examples_file import examples_in
from pipeline.gate.baselines import bundle_of_baseline
from pipeline.integrity import read_manifest, refuse_damaged
from pipeline.signing import EVIDENCE
from targets.engines.absent import is_unbuilt
from targets.engines.elsewhere import Elsewhere
from targets.engines.stamp import read_stamp, refuse_foreign
from targets.errors import EngineRefused, TargetsError
from targets.find import target_named
from targets.reach.local import describe_machine
from targets.reach.reached import Reached
from targets.runner import Engine
from targets.stopwatch import settle
from targets.target import Target

NAMES = ("baseline", "candidate")


@dataclass(frozen=True)
class Side:
    """One of the two bundles.

    name: as the user wrote it · call_ms: about how long an answer takes; 0 where it is not given on this machine
    """

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    engine: Engine
    path: Path
    call_ms: float

    @property
    def runtime(self) -> str:
        """Name of the engine's runtime, without its version."""
        return self.engine.name.lower()


@dataclass(frozen=True)
class Pair:
    """Baseline and candidate. inputs: one batch that both take, (1, …) · remarks: what the reader must know of it."""

    baseline: Side
    candidate: Side
    target: Target
    inputs: NDArray[Any]
    threads: int
    remarks: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[Side, Side]:
        """The baseline first."""
        return self.baseline, self.candidate


def pair_from(
    baseline: Path, candidate: Path, *, target: Target | None = None, threads: int | None = None,
    into: Path | None = None,
) -> Pair:  # fmt: skip
    """Both bundles, checked, and found comparable.

    target: of both, through a device; None: as it is here · threads: instead of those the bundles were made with
    into: a folder for engines that must be built anew, for as long as the pair is used; None: those are refused

    Raises:
        OnlyNumbers: of one only measurements were kept. BundleRefused: one is no bundle, damaged, unfinished, or of
        another kind than the other. UsageRefused: they were made for different numbers of threads. TargetsError: an
        engine does not run here.
    """
    folders = [bundle_of_baseline(baseline), bundle_of_baseline(candidate)]
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        refuse_damaged(folder, manifest, beside=EVIDENCE)
        if is_unbuilt(str(manifest["engine"].get("runtime"))):
            raise BundleRefused(
                f"{folder} holds no engine yet. Finish it on its device first: `compress build {folder} --device "
                "ADDRESS`."
            )
    refuse_unlike(folders, manifests)
    count = threads if threads is not None else threads_of(manifests)
    target = target_named(str(manifests[0]["target"]["name"])) if target is None else target
    inputs = examples_in(folders[0] / str(manifests[0]["examples"]))[0][:1]
    sides, remarks = [], list[str]()
    paths = [folder / str(manifest["engine"]["file"]) for folder, manifest in zip(folders, manifests, strict=True)]
    engines = [target.engine_of(str(manifest["engine"]["runtime"])) for manifest in manifests]
    if into is not None and target.device is None and target.is_here() and any(map(_is_foreign, engines, paths)):
        from pipeline.gate.built_here import REMARK, built_here  # loads onnx, which other gates do without

        engines, remarks = [target.engine] * 2, [REMARK]
        paths = [
            built_here(folder, manifest, target=target, threads=count, into=into / which)
            for folder, manifest, which in zip(folders, manifests, NAMES, strict=True)
        ]
    for place, name in enumerate((str(baseline), str(candidate))):
        side = Side(name, folders[place], manifests[place], engines[place], paths[place], 0.0)
        sides.append(_asked(side, target=target, inputs=inputs, threads=count))
    return Pair(sides[0], sides[1], target, inputs, count, tuple(remarks))


def _is_foreign(engine: Engine, path: Path) -> bool:
    """Whether an engine, which is whole, was built for another machine or by another version."""
    try:
        stamp = read_stamp(path)
        refuse_foreign(stamp, path=path, runtime=engine.runtime, machine=describe_machine())
    except EngineRefused:
        return True
    return False


def target_through(
    baseline: Path, candidate: Path, *, device: Reached | None, settings: Mapping[str, Any]
) -> Target | None:
    """The target of both bundles as this device; None where there is none.

    settings: of the jobs there, such as that clocks are locked

    Raises:
        BundleRefused: one is no bundle, or of another kind than the other. DeviceMissing: so is the device.
    """
    if device is None:
        return None
    folders = [bundle_of_baseline(place) for place in (baseline, candidate)]
    manifests = [read_manifest(folder) for folder in folders]
    refuse_unlike(folders, manifests)
    return target_named(str(manifests[0]["target"]["name"])).through(device, settings=settings)


def refuse_unlike(folders: list[Path], manifests: list[dict[str, Any]]) -> None:
    """Pass two bundles for one target whose networks take one kind of input.

    Raises:
        BundleRefused: they differ, which the sentence names.
    """
    told = [
        (
            ("target", manifest["target"].get("name")),
            ("input shape, without the batch", list(shape[1:])),
            ("batch size", shape[0] if shape else None),
            ("kind of input", (manifest.get("input") or {}).get("dtype")),
        )
        for manifest in manifests
        for shape in [list((manifest.get("input") or {}).get("shape") or [])]
    ]
    for (what, one), (_, other) in zip(*told, strict=True):
        if one != other:
            raise BundleRefused(
                f"these two cannot be compared: the {what} of {folders[0]} is {one}, and of {folders[1]} {other}. Give "
                "a baseline made for the same target and input."
            )


def threads_of(manifests: list[dict[str, Any]]) -> int:
    """The number of threads of both bundles.

    Raises:
        UsageRefused: they differ.
    """
    one, other = (int(manifest["engine"]["threads"]) for manifest in manifests)
    if one != other:
        raise UsageRefused(
            f"the baseline was made for {one} threads and the candidate for {other}. Say with how many both are to "
            "run: --threads N."
        )
    return one


def _asked(side: Side, *, target: Target, inputs: NDArray[Any], threads: int) -> Side:
    """The side after its engine has answered, with about how long that takes; as it is where the target is not here."""
    runtime = str(side.manifest["engine"]["runtime"])
    if not target.is_here():
        return side
    if isinstance(side.engine, Elsewhere) and runtime.split(" ")[0] != side.engine.name:
        raise BundleRefused(
            f"the engine of {side.folder} is of {runtime}, and {side.engine.device.address} is asked for those of "
            f"{side.engine.name}. Give two bundles that were made with --device."
        )
    try:
        with closing(side.engine.open(side.path, threads=threads)) as ask:
            answer = ask(inputs)
            call_ms = 0.0 if target.device is not None else settle(partial(ask, inputs), max_seconds=1.0)[1]
    except TargetsError as error:
        raise type(error)(f"{side.name}: {error}") from error
    if not np.isfinite(answer).all():
        raise BundleRefused(f"the engine of {side.folder} answers its own example with values that are not finite.")
    return replace(side, call_ms=call_ms)
