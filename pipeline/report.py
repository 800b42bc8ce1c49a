"""What a report tells, and in which order; every number comes from the manifest of a bundle.

The story is written out as Markdown (`report_markdown.py`) and as one HTML page (`report_page.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report_blocks import Cell, Figure, Listing, Mark, Part, Section, Story, Table, Tile
from pipeline.report_charts import Bar, Dot, bars_chart, dots_chart
from pipeline.report_engine import (
    calibration,
    conditions,
    integers,
    layers,
    method,
    parity,
    rivals,
    running,
    spread,
    training,
)
from pipeline.report_estimate import estimate_section
from pipeline.report_precision import precision
from pipeline.report_teacher import teacher_bought
from pipeline.report_words import (
    DASH,
    amount,
    bound_words,
    factor,
    figure_words,
    grouped,
    interval_words,
    limit_words,
    list_words,
    milliseconds,
    outcome_of,
    percent,
    points,
    seconds,
    size,
)
from targets.engines.absent import is_unbuilt
from targets.intervals import paired_drop_interval

Manifest = Mapping[str, Any]
Row = Mapping[str, Any]


def story_from(manifest: Manifest) -> Story:
    """The report of one bundle."""
    sections = [
        budgets(manifest),
        estimate_section(manifest),
        stages(manifest),
        spread(manifest),
        layers(manifest),
        integers(manifest),
        rivals(manifest),
        parity(manifest),
        calibration(manifest),
        precision(manifest),
        training(manifest),
        teacher_bought(manifest),
        running(manifest),
        conditions(manifest),
        method(manifest),
    ]
    return Story(
        title=f"{manifest['recipe']['name']} on {manifest['target']['name']}",
        outcome=outcome_of(manifest["exit_code"]),
        lead=lead(manifest),
        tiles=tiles(manifest),
        sections=tuple(section for section in sections if section is not None),
        foot=f"{manifest['created_by']}, seed {manifest['seed']}",
    )


def lead(manifest: Manifest) -> str:
    """The verdict in words: what was missed or left open comes first."""
    every = [*manifest["verdicts"], *(verdict for row in manifest["stages"] for verdict in row["verdicts"])]
    if not every:
        return "No budget was set: nothing was held against a limit."
    said = []
    if is_unbuilt(manifest["engine"]["runtime"]):
        said.append(
            f"No engine was built: {manifest['target']['name']} was not here. {manifest['engine']['file']}, from which "
            "the device builds one, answered in its place wherever this report speaks of the engine."
        )
    for outcome, word in (("missed", "Missed"), ("undecided", "Undecided"), ("met", "Met")):
        of_it = [verdict for verdict in every if verdict["verdict"] == outcome]
        if of_it:
            said.append(f"{word}: {list_words([_limit_said(verdict) for verdict in of_it])}.")
    return " ".join(said)


def _limit_said(verdict: Mapping[str, Any]) -> str:
    return f"{limit_words(verdict['limit'])} {figure_words(verdict, verdict['measured'])} ({bound_words(verdict)})"


def tiles(manifest: Manifest) -> tuple[Tile, ...]:
    """The handful of numbers that one wants first."""
    first, last = manifest["stages"][0], manifest["stages"][-1]
    found = []
    if last["latency_p99_ms"] is not None:
        found.append(
            Tile("Latency", milliseconds(last["latency_p50_ms"]), f"median; p99 {milliseconds(last['latency_p99_ms'])}")
        )
    if manifest["speedup"] is not None:
        found.append(Tile("Speed-up", factor(manifest["speedup"]), "median of the teacher over that of the engine"))
    if last["accuracy"] is not None:
        drop = manifest["accuracy_drop_points"]
        note = "" if drop is None else f"teacher {percent(first['accuracy'])}, drop {points(drop)} points"
        found.append(Tile(metric_of(manifest).capitalize(), percent(last["accuracy"]), note))
    if last["size_bytes"] is not None:
        found.append(Tile("Size", size(last["size_bytes"]), f"teacher {size(first['size_bytes'])}"))
    engine = manifest["engine"]
    total = engine["integer_ops"] + engine["float_ops"]
    found.append(Tile("In integers", f"{engine['integer_ops']} of {total}", "convolutions and matrix products"))
    return tuple(found)


def metric_of(manifest: Manifest) -> str:
    """What the scores of the run are called."""
    return str(manifest["stages"][0].get("metric", "accuracy"))


def budgets(manifest: Manifest) -> Section:
    """Every limit, what was measured, and whether it holds."""
    rows: list[tuple[Cell, ...]] = []
    for where, verdict in verdicts_of(manifest):
        rows.append(
            (
                limit_words(verdict["limit"]), where, bound_words(verdict), figure_words(verdict, verdict["measured"]),
                interval_words(verdict), Mark(verdict["verdict"], verdict["verdict"]), verdict["origin"],
                verdict["why"],
            )
        )  # fmt: skip
    if not rows:
        return Section("Budgets", ("No limit was set.",))
    head = ("limit", "of", "bound", "measured", "interval", "verdict", "set by", "why")
    return Section("Budgets", (Table(head, tuple(rows), "llrrrlll"), INTERVALS))


INTERVALS = (
    "An interval holds the truth above its lower end with 95 %, and below its upper end with 95 %. A limit is met when "
    "the whole interval is within the bound, missed when the whole interval is beyond it, and undecided otherwise."
)


def verdicts_of(manifest: Manifest) -> list[tuple[str, Mapping[str, Any]]]:
    """Every verdict with what it is on: the engine, or a stage that has limits of its own."""
    own = [(f"stage {row['name']}", verdict) for row in manifest["stages"] for verdict in row["verdicts"]]
    return [*(("engine", verdict) for verdict in manifest["verdicts"]), *own]


def stages(manifest: Manifest) -> Section:
    """A row per stage, and two drawings of them."""
    rows = manifest["stages"]
    head = (
        "stage", "form", metric_of(manifest), "n", "parameters", "MACs", "size", "p50", "p99", "speed-up",
        "peak memory", "time", "verdicts",
    )  # fmt: skip
    table = Table(head, tuple(stage_row(row) for row in rows), "llrrrrrrrrrrl")
    parts: list[Part] = [table]
    missing = missing_numbers(rows)
    parts += [Listing(missing)] if missing else []
    parts += [figure for figure in (accuracy_figure(rows), latency_figure(rows)) if figure is not None]
    return Section("Stages", tuple(parts))


def missing_numbers(rows: Sequence[Row]) -> tuple[str, ...]:
    """Which numbers are missing, of which stages, and why; the same reason is given once."""
    where: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, why in row["reasons"].items():
            if not (name == "pairs" and row is rows[0]):  # the teacher is not compared with itself
                where.setdefault((name.removesuffix("_bytes").replace("_", " "), why), []).append(row["name"])
    return tuple(f"No {name} of {list_words(stages)}: {why}." for (name, why), stages in where.items())


def stage_row(row: Row) -> tuple[Cell, ...]:
    """One line of the table."""
    verdicts = [verdict["verdict"] for verdict in row["verdicts"]]
    worst = next((outcome for outcome in ("missed", "undecided", "met") if outcome in verdicts), None)
    pairs = row["measurement"]["pairs"]
    time = Mark(f"{seconds(row['seconds'])}, kept", "quiet") if row["reused"] else seconds(row["seconds"])
    return (
        row["name"], row["form"], percent(row["accuracy"]),
        DASH if row["accuracy_n"] is None else grouped(row["accuracy_n"]),
        amount(row["parameters"]), amount(row["macs"]), size(row["size_bytes"]),
        milliseconds(row["latency_p50_ms"]), milliseconds(row["latency_p99_ms"]),
        factor(pairs["speedup"]) if pairs else DASH,
        size(row["peak_memory_bytes"]), time, Mark(worst, worst) if worst else DASH,
    )  # fmt: skip


def accuracy_figure(rows: Sequence[Row]) -> Figure | None:
    """Accuracy per stage (or what stands for it), each with its paired interval against the teacher."""
    teacher = rows[0]["measurement"]["accuracy"]
    if teacher is None:
        return None
    dots, lines, metric = [], [], rows[0].get("metric", "accuracy")
    for place, row in enumerate(rows):
        accuracy = row["measurement"]["accuracy"]
        if accuracy is None:
            continue
        low = high = drop = None
        if place and accuracy["n"] == teacher["n"]:
            interval = paired_drop_interval(teacher["scores"], accuracy["scores"])
            low = max(0.0, teacher["value"] - interval.high / 100)
            high = min(1.0, teacher["value"] - interval.low / 100)
            drop = 100 * (teacher["value"] - accuracy["value"])
        dots.append(
            Dot(
                row["name"], 100 * accuracy["value"], None if low is None else 100 * low,
                None if high is None else 100 * high, percent(accuracy["value"]),
            )
        )  # fmt: skip
        ends = DASH if low is None or high is None else f"{percent(low)} … {percent(high)}"
        lines.append((row["name"], percent(accuracy["value"]), ends, points(drop)))
    note = (
        f"On the same {grouped(teacher['n'])} test inputs. Dashed: the teacher. Whiskers: what the stage's {metric} "
        "may be if the teacher's is as measured, from the inputs on which the two disagree; 95 % to each side."
    )
    svg = dots_chart(dots, guide=100 * teacher["value"], unit="%", label=f"{metric.capitalize()} per stage")
    table = Table(("stage", metric, "paired interval", "drop, points"), tuple(lines), "lrrr")
    return Figure(f"{metric.capitalize()} per stage", svg, note, table)


def latency_figure(rows: Sequence[Row]) -> Figure | None:
    """Latency per stage: the median as a bar, p99 as a mark."""
    timed = [row for row in rows if row["latency_p50_ms"] is not None]
    if not timed:
        return None
    bars = [
        Bar(
            row["name"], row["latency_p50_ms"], milliseconds(row["latency_p50_ms"]), row is rows[-1],
            tick=row["latency_p99_ms"],
        )
        for row in timed
    ]  # fmt: skip
    lines = tuple(
        (row["name"], milliseconds(row["latency_p50_ms"]), milliseconds(row["latency_p99_ms"])) for row in timed
    )
    note = (
        "Bar: median; mark: p99. Every form was turned into an engine of the same runtime to be timed. The stages were "
        "timed at different moments; the speed-up in the table is from answers taken in turns with the teacher's."
    )
    svg = bars_chart(bars, unit="ms", label="Latency per stage")
    return Figure("Latency per stage", svg, note, Table(("stage", "p50", "p99"), lines, "lrr"))
