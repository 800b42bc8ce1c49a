"""Two engines of a device timed in turns in fresh processes there: what a gate samples from, over the link.

A **block** is one job "measure": the state of the device is read, both engines are timed in several fresh processes,
the state is read again. Each of those processes is an independent observation, as one on this machine is; a job has
several because what surrounds them (the link, locking the clocks, reading the state) takes as long as one of them does.
Times are those of whole answers by the clock, transfers included. With ONNX Runtime both engines are open in one
process and take turns by call; with TensorRT a process is a pair of them, one per engine, in an order that is drawn.

A block in which the state changed is thrown away and taken again, twice at the most; then `DeviceChanged` says what
changed. What counts, and what does not, of what a device calls unstable (targets/on_device/stability.py):

    state       power mode, limits of clocks, throttling, clocks below where they were locked: it counts, within a
                block, and mode and limits also since the first block. The turns of a TensorRT engine last a second, so
                a change hits one engine alone; and the ratio in another mode is another quantity
    variation   2.5 % within one process: it does not. It is noise of single calls, which the spread between processes
                has in it: the interval is wider for it, not wrong
    drift       2 % between the halves of one process: it does not, where nothing of the state explains it. It hits the
                engine that is timed first as often as the other, so that it widens the interval too
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from numpy.typing import NDArray

from targets.engines.elsewhere import ONNX_RUNTIME, TENSORRT, Elsewhere, Timed
from targets.engines.fresh_processes import Sitting
from targets.errors import DeviceChanged, DeviceLost, EngineFailed
from targets.on_device.stability import disturbed
from targets.reach.device import NOTHING_LOST

REPEATS = 2  # of a block, running
TIMED = 3  # calls whose shortest stands for a turn, as on this machine
OTHER_SEEDS = 1_000_003  # between two attempts at a block
KEPT = ("power_mode", "clocks")  # what must be as it was at the first block
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # seconds: of counted calls per engine and process · least: calls of an engine that is slow
    ONNX_RUNTIME: {"processes": 3, "seconds": 0.2, "least": 3 * TIMED},
    # one run instead of two, and clocks rise in a tenth of a second: a process of trtexec costs seconds as it is
    TENSORRT: {"processes": 3, "seconds": 0.3, "warm_up_ms": 300, "least": 3 * TIMED, "apart": False},
}


@dataclass(frozen=True)
class BlocksThere:
    """Times two engines in a fresh process per call; those of a block are given one by one.

    paths: the baseline first · inputs: one batch, (1, …)
    blocks: that are believed, in their order · thrown: why others were taken again · ready: processes still to be given
    """

    engine: Elsewhere
    paths: tuple[Path, Path]
    inputs: NDArray[Any]
    threads: int
    blocks: list[Timed] = field(default_factory=list)
    thrown: list[str] = field(default_factory=list)
    ready: list[tuple[Sitting, ...]] = field(default_factory=list)

    def __call__(self, seed: int) -> tuple[Sitting, ...]:
        """The next process, of a new block where the last one is used up.

        Raises:
            DeviceChanged: the device did not stay as it was in three blocks running.
            DeviceLost: it went away. TimesRefused: it is emulated. EngineFailed: an engine fails there.
        """
        if not self.ready:
            block = self._block(seed)
            self.ready.extend((sitting_from_times(each),) for each in block.each_ms)
            self.blocks.append(block)
        return self.ready.pop(0)

    def waiting(self) -> int:
        """How many processes have ended and were not given yet."""
        return len(self.ready)

    def compute_ms(self) -> list[tuple[float, float]]:
        """Of each process the median time of both engines' kernels alone, where the runtime tells them."""
        return [
            (median(base), median(cand))
            for block in self.blocks
            for base, cand in block.each_compute_ms
            if base and cand
        ]

    def state(self) -> dict[str, Any]:
        """Of the device before the first block and after the last, and how many blocks that were."""
        if not self.blocks:
            return {"blocks": 0, "repeated": list(self.thrown)}
        return {
            "before": self.blocks[0].state.get("before"), "after": self.blocks[-1].state.get("after"),
            "clocks": self.blocks[-1].state.get("clocks"), "blocks": len(self.blocks), "repeated": list(self.thrown),
        }  # fmt: skip

    def _block(self, seed: int) -> Timed:
        for attempt in range(1 + REPEATS):
            timed = self._timed(seed + attempt * OTHER_SEEDS)
            first = self.blocks[0] if self.blocks else timed
            changed = changes(first.state, timed.state)
            if not changed:
                return timed
            self.thrown.append(" ".join([*changed[:2], *warmth(timed.state)]))
        raise DeviceChanged(
            f"{self.engine.device.address} did not stay as it was, in {1 + REPEATS} blocks running: {self.thrown[-1]} "
            "Let it cool, leave it alone, hold its clocks (--lock-clocks) or lower its power mode (--power-mode); then "
            "run the gate again."
        )

    def _timed(self, seed: int) -> Timed:
        engine = replace(self.engine, settings={**SETTINGS[self.engine.name], **self.engine.settings})
        try:
            return engine.times(self.paths, self.inputs, threads=self.threads, seed=seed, samples=None)
        except DeviceLost as lost:
            said = str(lost).replace(NOTHING_LOST, "").strip()
            raise DeviceLost(f"{said} A gate has to begin anew; both bundles are as they were.") from lost


def sitting_from_times(times_ms: Sequence[Sequence[float]]) -> Sitting:
    """The times of one process there, the baseline's first; in whole turns, as many of both."""
    count = min(map(len, times_ms)) // TIMED * TIMED
    if count == 0 or len(times_ms) != 2:
        raise EngineFailed(
            f"The device sent {min(map(len, times_ms))} times of an engine; at least {TIMED} are needed."
        )
    base, cand = (tuple(each[:count]) for each in times_ms)
    unknown = (float("nan"), float("nan"))  # how long it takes to open an engine is not told
    return Sitting(unknown, ((), ()), (base, cand), TIMED)


def changes(first: Mapping[str, Any], block: Mapping[str, Any]) -> list[str]:
    """What was not as it should be in this block, a sentence each.

    first, block: {"before", "after", "clocks"} of the first block and of this one
    """
    before, after = _part(block, "before"), _part(block, "after")
    then = {name: _part(first, "before").get(name) for name in KEPT}
    found = [*disturbed(before, after), *disturbed(then, {name: after.get(name) for name in KEPT})]
    locked, now = _part(first, "clocks"), _part(block, "clocks")
    if locked.get("locked") and not now.get("locked"):
        found.append(f"the clocks were locked at first, and could not be any more: {now.get('why')}.")
    return [*dict.fromkeys(found)]


def warmth(block: Mapping[str, Any]) -> list[str]:
    """The hottest sensor before and after, where the device has any."""
    hottest = [max(_part(_part(block, when), "temperatures_c").values(), default=None) for when in ("before", "after")]
    if None in hottest:
        return []
    return [f"Its hottest sensor went from {hottest[0]:.0f} to {hottest[1]:.0f} °C."]


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}
