"""What a gate over --device has that one on this machine has not: times by blocks there, the device's state, its words.

Only the time of day is told there. How long an engine takes to open is not; the kernels' own time is, by a GPU's clock.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import Any

from pipeline.gate.further_lines import quantile_line
from pipeline.gate.gate import Limits, Sampled, latency_line
from pipeline.gate.outcome import Finding, Line
from pipeline.gate.pair import Pair
from pipeline.gate.unmeasured import unmeasured_line
from pipeline.progress import Progress
from targets.engines.block_there import BlocksThere
from targets.engines.elsewhere import Elsewhere
from targets.paired_ratio import Looks, estimate_from
from targets.reach.conditions_there import conditions_there
from targets.reach.local import conditions_here


def blocks_of(pair: Pair) -> BlocksThere:
    """The measure of this pair on its device."""
    engine = pair.baseline.engine
    if not isinstance(engine, Elsewhere):
        raise TypeError("a pair whose target was not reached has no blocks on a device")
    return BlocksThere(engine, (pair.baseline.path, pair.candidate.path), pair.inputs, pair.threads)


def lines_there(
    blocks: BlocksThere, found: Sampled, limits: Limits, *, error_rate: float, seed: int
) -> tuple[Line, ...]:
    """The latency, and what else the same samples tell."""
    lines = [
        latency_line(found, limit=limits.latency, error_rate=error_rate),
        quantile_line("p50", 0.5, found, limit=None, error_rate=error_rate, seed=seed),
        quantile_line("p99", 0.99, found, limit=limits.p99, error_rate=error_rate, seed=seed),
        *compute_lines(blocks, error_rate=error_rate),
    ]
    if limits.load is not None:
        why = "not measured: on a device the time to open an engine is not told. Leave --max-load-regression out."
        lines.append(unmeasured_line("load time", "ms", limits.load, why))
    return tuple(lines)


def compute_lines(blocks: BlocksThere, *, error_rate: float) -> tuple[Line, ...]:
    """The kernels alone; none where the runtime does not tell them. Nobody can set a limit on it."""
    times = blocks.compute_ms()
    if not times:
        return ()
    taken = estimate_from([math.log(cand / base) for base, cand in times], error_rate=error_rate)
    low, high = (each if 0 < each < math.inf else None for each in (taken.interval.low, taken.interval.high))
    base, cand = (median(each[place] for each in times) for place in (0, 1))
    why = f"of the kernels alone, without transfers, by the GPU's clock, in {taken.processes} processes"
    return (
        Line("compute time", "ms", base, cand, "ratio", taken.ratio, low, high, None, Finding.REPORTED, why),
    )  # fmt: skip


def conditions_of(pair: Pair, *, runtime: str, samples: int) -> dict[str, Any]:
    """Of the device that was reached, or of this machine, which is the target or is not."""
    told: dict[str, Any] = {
        "target": pair.target.name, "runtime": runtime, "threads": pair.threads, "batch": len(pair.inputs),
        "warmup_runs": 0, "samples": samples,
    }  # fmt: skip
    if pair.target.device is not None:
        return asdict(conditions_there(pair.target.device.facts(), **told))
    return asdict(conditions_here(**told, on_target=pair.target.is_here()))


def remarks_there(blocks: BlocksThere, found: Sampled, *, looks: Looks) -> tuple[str, ...]:
    """What the reader must know of the device."""
    told = []
    if blocks.thrown:
        told.append(f"{counted(len(blocks.thrown), 'block')} taken again, for the device changed: {blocks.thrown[-1]}")
    clocks = blocks.blocks[-1].state.get("clocks") if blocks.blocks else None
    asked = {"lock_clocks", "power_mode"} & set(blocks.engine.settings)
    if asked and isinstance(clocks, dict) and clocks.get("why") != "locked":
        told.append(f"The clocks are not as asked for: {clocks.get('why')}")
    shaky = [block for block in blocks.blocks if block.unstable]
    if shaky:
        told.append(
            f"{counted(len(shaky), 'block')} unsteady within a process ({shaky[0].unstable[0].rstrip('.')}): "
            "that makes the interval wider, and shifts it nowhere."
        )
    least = math.ceil(-math.log2(looks.spent(len(looks.at) - 1)))
    done = len(found.processes)
    if done < least and not found.stopped:
        pace_s = found.seconds / done
        told.append(
            f"A verdict takes at least {least} processes, and {done} took {found.seconds:.0f} s: give --max-seconds "
            f"{math.ceil(1.5 * least * pace_s / 10) * 10}."
        )
    return tuple(told)


def counted(count: int, what: str) -> str:
    """ "1 block was", "2 blocks were"."""
    return f"{count} {what} was" if count == 1 else f"{count} {what}s were"


def heard_once(progress: Progress) -> Callable[[dict[str, Any]], None]:
    """Shows what jobs say, each sentence once: every block says the same. A block's own progress is not the gate's."""
    told: set[str] = set()

    def hear(event: dict[str, Any]) -> None:
        text = str(event.get("text"))
        if event.get("event") == "says" and text not in told:
            told.add(text)
            progress.say(text)

    return hear
