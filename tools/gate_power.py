"""How often `compress gate` is wrong, and how small a slow-down it finds: the figures of docs/gate.md.

python tools/gate_power.py --bundle BUNDLE --records DIR --gates 200 --slowdowns 0        false alarms
python tools/gate_power.py --bundle BUNDLE --records DIR --gates 40 --slowdowns 1,2,3,5,10
python tools/gate_power.py --bundle BUNDLE --records DIR --by-hand 30 --slowdowns 0,3     what one does by hand
python tools/gate_power.py --records DIR --table                                          what was found until now

A trial is one gate: fresh processes until the gates of every budget of seconds (--seconds 30,60,120) have ended. Trials
of all slow-downs take turns, each is written down when it ends, and the same command goes on where it was stopped.
--load loaded has a program at work on each core meanwhile; --load idle has none, and wants a machine that is otherwise
quiet. BUNDLE is one for a float32 picture network in ONNX Runtime; the slower networks are made from its engine.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from gate_trials.by_hand import RULES, by_hand
from gate_trials.load import loaded
from gate_trials.recorded import recorded_trial
from gate_trials.slower import slower_by

from pipeline.gate.gate import Sampled
from pipeline.gate.pair import Pair, pair_from
from targets.engines.fresh_processes import FreshProcesses, pace_for
from targets.paired_ratio import estimate_from
from targets.reach.local import describe_machine
from targets.stopwatch import now_s

LIMIT = 1.02
TUNING = 24  # processes per network while its work is found


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--records", type=Path, required=True, help="the folder of trials; what is there is kept")
    parser.add_argument("--gates", type=int, default=0, help="trials of each slow-down, those on record included")
    parser.add_argument("--by-hand", type=int, default=0, help="likewise, of the rules that one uses by hand")
    parser.add_argument("--by-hand-seconds", type=float, default=30.0)
    parser.add_argument("--slowdowns", default="0", help="in percent")
    parser.add_argument("--seconds", default="30,60,120", help="budgets of the gates")
    parser.add_argument("--load", choices=("idle", "loaded"), default="idle")
    parser.add_argument("--table", action="store_true")
    flags = parser.parse_args()
    flags.records.mkdir(parents=True, exist_ok=True)
    if flags.table:
        sys.stdout.write(table(flags.records))
        return 0
    if flags.bundle is None:
        parser.error("--bundle is missing")
    shares = [float(each) / 100 for each in flags.slowdowns.split(",")]
    with loaded() if flags.load == "loaded" else nullcontext():
        run(flags, pair_from(flags.bundle, flags.bundle), shares)
    sys.stdout.write(table(flags.records))
    return 0


def run(flags: argparse.Namespace, pair: Pair, shares: Sequence[float]) -> None:
    """Trials in turns until there are enough."""
    engines = networks(flags.records, pair, shares)
    budgets = [float(each) for each in flags.seconds.split(",")]
    for what, wanted in (("gate", flags.gates), ("by hand", flags.by_hand)):
        for turn in range(wanted):
            for share in shares:
                file = flags.records / f"{what.replace(' ', '-')}-{flags.load}-{share:g}.jsonl"
                if len(list(rows_of(file))) > turn:
                    continue
                seed = 1_000_000 * turn + round(share * 10_000)
                began = now_s()
                if what == "gate":
                    rows, ended = recorded_trial(
                        measuring(pair, engines[share]), seconds=budgets, limit=LIMIT, seed=seed
                    )
                    told: dict[str, Any] = {
                        "processes": rows, "ended": {f"{each:g}": asdict(end) for each, end in ended.items()}
                    }  # fmt: skip
                else:
                    told = {
                        "seconds": flags.by_hand_seconds,
                        "regressed": by_hand(
                            (pair.baseline.path, engines[share]), pair.inputs, runtime=pair.baseline.runtime,
                            threads=pair.threads, seconds=flags.by_hand_seconds, limit=LIMIT,
                        ),
                    }  # fmt: skip
                append(file, {"share": share, "load": flags.load, "took_s": now_s() - began, **told})
                shown = {key: value for key, value in told.items() if key != "processes"}
                sys.stderr.write(f"{what} {turn + 1}/{wanted} {flags.load} {100 * share:g} %: {json.dumps(shown)}\n")


def networks(records: Path, pair: Pair, shares: Sequence[float]) -> dict[float, Path]:
    """The slowed engines, each made once."""
    there = {share: records / f"slower-{share:g}.engine.onnx" for share in shares if share}
    if all(path.is_file() for path in there.values()):
        return {0.0: pair.baseline.path, **there}
    missing = [share for share, path in there.items() if not path.is_file()]
    slower_by(pair.baseline.path, missing, into=records, log_ratio=lambda path: log_ratio(pair, path))
    (records / "machine.json").write_text(
        json.dumps({"machine": asdict(describe_machine()), "runtime": pair.baseline.engine.runtime,
                    "call_ms": pair.baseline.call_ms}, indent=1), encoding="utf-8"
    )  # fmt: skip
    return {0.0: pair.baseline.path, **there}


def log_ratio(pair: Pair, path: Path) -> float:
    """log(time of this engine / time of the baseline), from some processes."""
    found = Sampled("cpu_ms")
    for seed in range(TUNING):
        found.add(measuring(pair, path)(seed))
    return math.log(found.estimate(0.05).ratio)


def measuring(pair: Pair, path: Path) -> FreshProcesses:
    """What the gate measures with."""
    runtime = pair.baseline.runtime
    return FreshProcesses(
        ((pair.baseline.path, runtime), (path, runtime)), pair.inputs, pair.threads, pace_for(pair.baseline.call_ms)
    )


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """The trials on record."""
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def append(file: Path, row: dict[str, Any]) -> None:
    """Write a trial down."""
    line = json.dumps(row) + "\n"
    with file.open("a", encoding="utf-8") as out:
        out.write(line)


def table(records: Path) -> str:
    """Everything on record, in Markdown."""
    lines = ["| load | slow-down made (measured) | budget s | gates | regressed | fine | undecided | median s |",
             "|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for file in sorted(records.glob("gate-*.jsonl"), key=order_of):
        rows = list(rows_of(file))
        logs = [each for row in rows for _, each in row["processes"]]
        taken = estimate_from(logs[:1000], error_rate=0.025)
        true = f"{100 * rows[0]['share']:g} % ({100 * (taken.ratio - 1):.2f})"
        for budget in rows[0]["ended"]:
            ended = [row["ended"][budget] for row in rows if budget in row["ended"]]
            counts = [sum(each["finding"] == word for each in ended) for word in ("regressed", "fine", "undecided")]
            shown = " | ".join(f"{count} ({100 * count / len(ended):.1f} %)" for count in counts)
            spent = median(each["seconds"] for each in ended)
            lines.append(f"| {rows[0]['load']} | {true} | {budget} | {len(ended)} | {shown} | {spent:.0f} |")
    hand = sorted(records.glob("by-hand-*.jsonl"), key=order_of)
    if hand:
        lines += ["", "| load | slow-down made | s | trials | " + " | ".join(RULES) + " |",
                  "|---|---:|---:|---:|" + "---:|" * len(RULES)]  # fmt: skip
    for file in hand:
        rows = list(rows_of(file))
        shown = " | ".join(f"{100 * sum(row['regressed'][rule] for row in rows) / len(rows):.0f} %" for rule in RULES)
        lines.append(
            f"| {rows[0]['load']} | {100 * rows[0]['share']:g} % | {rows[0]['seconds']:g} | {len(rows)} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def order_of(file: Path) -> tuple[str, float]:
    """By load, then by slow-down."""
    _, load, share = file.stem.replace("by-hand", "byhand").split("-", 2)
    return load, float(share)


if __name__ == "__main__":
    sys.exit(main())
