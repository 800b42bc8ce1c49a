"""What a report tells about the engine: how its times spread, where they go, what is integer, how to run it."""

from collections.abc import Mapping
from typing import Any

from pipeline.report_blocks import Cell, Code, Figure, Listing, Mark, Part, Section, Table
from pipeline.report_charts import Bar, bars_chart, histogram_chart, histogram_range
from pipeline.report_device import device_rows
from pipeline.report_kernels import engine_name, mixed_kernels, not_built
from pipeline.report_words import DASH, GAP, digits, factor, grouped, list_words, milliseconds, percent, points, size
from targets.engines.absent import is_unbuilt

Manifest = Mapping[str, Any]
LONGEST_LAYERS = 12


def spread(manifest: Manifest) -> Section | None:
    """Every sample of teacher and engine, taken in turns."""
    pairs = manifest["stages"][-1]["measurement"]["pairs"]
    if pairs is None:
        return None
    before, after = pairs["reference_ms"], pairs["candidate_ms"]
    _, high, logarithmic = histogram_range(before, after)
    beyond = sum(sample > high for sample in (*before, *after))
    note = f"{grouped(len(before))} answers of each, taken in turns, one input at a time."
    note += " The axis is logarithmic." if logarithmic else ""
    note += f" Slower than the axis shows, and in its last bin: {beyond} of all answers." if beyond else ""
    svg = histogram_chart(
        before, after, names=("teacher", "engine"), unit="ms", label="Distribution of the latency of teacher and engine"
    )
    lines: list[tuple[Cell, ...]] = []
    for name, samples in (("teacher", before), ("engine", after)):
        ordered = sorted(samples)
        ranks = [ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * q // 100) - 1))] for q in (5, 50, 95, 99)]
        lines.append((name, *(milliseconds(each) for each in (ordered[0], *ranks, ordered[-1]))))
    head = ("", "fastest", "5 %", "median", "95 %", "99 %", "slowest")
    table = Table(head, tuple(lines), "lrrrrrr")
    interval = pairs["speedup_interval"]
    ends = [DASH if end is None else factor(end) for end in interval]
    said = f"The engine is {factor(pairs['speedup'])} as fast as the teacher (interval {ends[0]} to {ends[1]})."
    return Section("Latency, teacher against engine", (said, Figure("Distribution", svg, note, table)))


def layers(manifest: Manifest) -> Section | None:
    """Where the engine's time goes."""
    engine = manifest["engine"]
    times = engine["layer_times"]
    if not times:
        why = engine["layer_times_missing"]
        return Section("Where the time goes", (f"The time per layer was not measured: {why}.",)) if why else None
    total = sum(layer["median_ms"] for layer in times) or 1.0
    longest = sorted(times, key=lambda layer: -layer["median_ms"])[:LONGEST_LAYERS]
    rest = total - sum(layer["median_ms"] for layer in longest)
    bars, lines = [], []
    for layer in longest:
        share = layer["median_ms"] / total
        bars.append(Bar(layer["name"], layer["median_ms"], f"{100 * share:.1f} %", layer["integer"]))
        lines.append((layer["name"], layer["kind"], _arithmetic(layer["integer"]), _exact(layer["median_ms"])))
    if len(times) > len(longest):
        name = f"the other {len(times) - len(longest)}"
        bars.append(Bar(name, rest, f"{100 * rest / total:.1f} %", accent=False))
        lines.append((name, "", "", _exact(rest)))
    integer = sum(layer["median_ms"] for layer in times if layer["integer"]) / total
    note = (
        f"Median time of each operator, the longest {len(longest)} of {len(times)}; coloured: 8-bit integers. "
        f"{percent(integer)} of the time is spent on operators that read or write 8-bit integers."
    )
    svg = bars_chart(bars, unit="ms", label="Time by layer", left=230)
    table = Table(("operator", "kind", "arithmetic", "median"), tuple(lines), "lllr")
    return Section("Where the time goes", (Figure("Time by layer", svg, note, table),))


def integers(manifest: Manifest) -> Section:
    """How much is integer, and what was left in floating point and why."""
    engine = manifest["engine"]
    total = engine["integer_ops"] + engine["float_ops"]
    said = "of the engine multiply integers."
    if is_unbuilt(engine["runtime"]):
        said = "of the file are quantized. Whether they multiply integers is seen in the engine, on the device."
    parts: list[Part] = [f"{engine['integer_ops']} of {total} convolutions and matrix products {said}"]
    floating = [row for row in engine["operators"] if not row["integer"]]
    if floating:
        rows = tuple((row["name"], row["kind"], row["why"] or DASH) for row in floating)
        parts.append(Table(("in floating point", "kind", "why"), rows, "lll"))
    quantization = manifest["quantization"]
    if quantization is not None:
        kept = quantization["kept_float"]
        if kept:
            parts.append("Kept in floating point on purpose:")
            parts.append(Listing(tuple(f"{layer}: {why}" for layer, why in kept.items())))
        scheme = quantization["scheme"]
        parts.append(f"Weights have {scheme['weight_bits']} bits: {scheme['why']}.")
    return Section("Integer arithmetic", tuple(parts))


def parity(manifest: Manifest) -> Section | None:
    """Hop by hop from the teacher to the engine: equal answers and largest difference."""
    passed = manifest["stages"][-1]["facts"].get("hops") or []
    if not passed:
        return None
    rows = tuple(
        (
            *(_named(row, end) for end in ("from", "to")),
            percent(row["to_score"]) if "to_score" in row else DASH,
            *(percent(row["equal_answers"]), digits(row["largest"]), digits(row["scale"])),
        )
        for row in passed
    )
    same = manifest["stages"][-1]["facts"]["agreement"]
    unequal = round(same["inputs"] * (1 - same["equal_answers"]))
    settled = ""
    # An engine with float kernels rounds on its own way to an answer (stages/same_integers.py).
    what = "codes in every layer" if manifest["stages"][-1]["facts"].get("why_float") else "answer to each"
    if same.get("in_integers"):
        settled = (
            f" {grouped(same['in_integers'])} of them differ clearly, because torch's roundings in float32 add up; the "
            f"integers of the quantized network, computed a second time in numpy, give the engine's {what}, and "
            "layer by layer torch gives the same codes."
        )
    return Section(
        "From hop to hop",
        (
            f"The engine and the quantized network in torch answer {grouped(unequal)} of {grouped(same['inputs'])} "
            f"test inputs differently.{settled}",
            Table(("from", "to", "metric", "equal answers", "largest difference", "size of answers"), rows, "llrrrr"),
            f"On {grouped(passed[0]['inputs'])} validation inputs; metric: the score behind the hop; size: root mean "
            f"square of the answers before it.{_before_the_first(passed[0])}",
        ),
    )


def calibration(manifest: Manifest) -> Section | None:
    """What was tried without training, step by step."""
    for stage in manifest["stages"]:
        tried = stage["facts"].get("tried") or []
        if tried:
            rows = tuple((step, f"{100 * error:.3f}{GAP}%", "yes" if kept else "no") for step, error, kept in tried)
            note = (
                "Error: squared difference from the float network's answers over their variance, on the calibration "
                "inputs. A step is kept when it lowers the error."
            )
            table = Table(("step", "error", "kept"), rows, "lrl")
            return Section("Quantized without training", (table, note))
    return None


def rivals(manifest: Manifest) -> Section | None:
    """The engines that could have been handed over, the fastest of them, and where the first lost if it did."""
    seen, refused = manifest["stages"][-1]["facts"].get("rivals") or [], not_built(manifest["stages"][-1]["facts"])
    if not seen:
        return Section("Which engine is the fastest", tuple(refused)) if refused else None
    rows: list[tuple[Cell, ...]] = [
        (
            engine_name(rival), rival["runtime"], rival["stage"], milliseconds(rival["p50_ms"]),
            factor(rival["speedup"]), "yes" if rival["shipped"] else f"no: {rival['why_not']}",
        )
        for rival in seen
    ]  # fmt: skip
    parts: list[Part] = [
        "Timed in turns on the target. The first is handed over unless another is faster for certain and answers what "
        "its own network in torch answers; an engine that needs another package must be 2 % faster for certain.",
        Table(("engine", "runtime", "made from stage", "median", "speed", "handed over"), tuple(rows), "lllrrl"),
    ]
    if {rival["name"] for rival in seen[:2]} == {"int8", "float"}:
        low, high = (DASH if end is None else factor(end) for end in seen[0]["interval"])
        parts.insert(
            0,
            f"In {seen[0]['runtime']} the INT8 engine is {factor(seen[0]['speedup'])} as fast as the float engine of "
            f"the same network (interval {low} to {high}).",
        )
    parts += refused
    parts += mixed_kernels(seen, manifest["stages"][-1]["facts"].get("mixed") or ())
    for rival in seen:
        kinds: dict[str, float] = {}
        for layer in rival.get("layers", ()):
            kinds[layer["kind"]] = kinds.get(layer["kind"], 0.0) + layer["median_ms"]
        longest = sorted(kinds.items(), key=lambda item: -item[1])[:LONGEST_LAYERS]
        if longest:
            lines = tuple((kind, _exact(time_ms)) for kind, time_ms in longest)
            title = f"operators of the {rival['name']} engine in {rival['runtime']}"
            parts.append(Table((title, "time"), lines, "lr"))
    return Section("Which engine is the fastest", tuple(parts))


def _named(row: Mapping[str, Any], end: str) -> str:
    """One end of a hop, with what kind of thing it is."""
    form = row.get(f"{end}_form")
    return f"{row[end]} ({form})" if form else str(row[end])


def _before_the_first(row: Mapping[str, Any]) -> str:
    return f" Before the first hop it is {percent(row['from_score'])}." if "from_score" in row else ""


def training(manifest: Manifest) -> Section | None:
    """What training with quantizers in place brought, over calibration alone."""
    rows: list[tuple[Cell, ...]] = []
    for stage in manifest["stages"]:
        before, after = (stage["facts"].get(name) for name in ("validation_score_untrained", "validation_score"))
        if before is not None and after is not None:
            rows.append((stage["name"], percent(before), percent(after), points(100 * (after - before))))
    if not rows:
        return None
    head = ("stage", "calibrated only", "trained against the teacher", "gain, points")
    note = (
        f"Scores on the {grouped(manifest['data']['validation'])} validation inputs, fake-quantized in torch. "
        "The best epoch was chosen on the same inputs, so the gain is an optimistic one."
    )
    return Section("Calibration alone, and distillation", (Table(head, tuple(rows), "lrrr"), note))


def running(manifest: Manifest) -> Section:
    """What the receiver types."""
    runtime = manifest["engine"]["runtime"].split(" ")
    wanted = "==".join(runtime[:2]) if runtime[0] in ("onnxruntime", "openvino") else "onnxruntime"
    example = "input.npy" if manifest["input"]["preprocess"] is None else "photo.jpg"
    taken = manifest["input"]
    shape = " × ".join(str(length) for length in taken["shape"])
    kind = "images of any size" if taken["preprocess"] is not None else ".npy files, one input each, as trained"
    return Section(
        "How to run it",
        (
            f"The folder stands alone. It takes {kind}; the network itself takes {taken['dtype']} of {shape}, "
            f"named “{taken['name']}”.",
            Code(f"python -m pip install numpy {wanted}\npython run.py {example} --top 3\ncompress verify ."),
            "compress verify needs edge-compress; sha256sum -c SHA256SUMS checks the files without it.",
        ),
    )


def conditions(manifest: Manifest) -> Section:
    """Where and how the last row's numbers were taken."""
    rows: list[tuple[Cell, ...]] = []
    seen = manifest["conditions"]
    if seen is not None:
        place = seen["machine"] if seen["on_target"] else f"{seen['machine']}, which is not the target"
        rows += [
            ("target", f"{manifest['target']['name']}: {manifest['target']['summary']}"),
            ("measured on", place),
            ("processor", f"{seen['cpu']}, {seen['cores']} cores usable"),
            ("processor features", " ".join(seen["cpu_features"]) or DASH),
            ("operating system", seen["operating_system"]),
            ("memory", size(seen["memory_bytes"])),
            ("runtime", seen["runtime"]),
            ("threads", str(seen["threads"])),
            ("batch", str(seen["batch"])),
            ("warm-up", f"{seen['warmup_runs']} answers"),
            ("samples", grouped(seen["samples"])),
            ("load average", DASH if seen["load_average"] is None else digits(seen["load_average"])),
            ("frequency governor", seen["governor"] or "unknown"),
            *device_rows(seen),
        ]
    data = manifest["data"]
    sizes = [f"{grouped(data[name])} {name}" for name in ("train", "validation", "test")]
    rows.append(("data", f"{data['name']}: {list_words(sizes)} inputs"))
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())))
    return Section("Conditions", (Table(("", "taken under"), tuple(rows), "ll"),))


def method(manifest: Manifest) -> Section:
    """How each number came about, shortly."""
    last = manifest["stages"][-1]["measurement"]
    items = []
    if manifest["stages"][-1].get("metric") == "fidelity":
        items.append(
            "Fidelity: the answers name no class, so that each is held against the float network's to the same input: "
            "one minus its squared distance, in units of how far the float network's answers lie from their mean, each "
            "output weighing the same. 100 % for the float network, 0 % for one that answers every input alike. Limits "
            "on the accuracy drop are limits on the drop of fidelity."
        )
    elif last["accuracy"] is not None:
        items.append(
            f"Accuracy: the mean score over all {grouped(last['accuracy']['n'])} test inputs, answered by the engine. "
            "A drop is held against the teacher's answers to the same inputs; only those on which "
            "the two disagree inform."
        )
    if last["latency"] is not None:
        items.append(
            "Latency: one input at a time, after warming up until the median settles; the number of samples "
            f"({grouped(len(last['latency']['samples_ms']))}) was fixed before the first. p99 is a sample that was "
            "measured, and its interval is made of order statistics: no shape is assumed."
        )
    if last["pairs"] is not None:
        items.append(
            "Speed-up: teacher and engine answer in turns, so that a change of the machine hits both; the ratio "
            "of medians."
        )
    if last["peak_memory_bytes"] is not None:
        items.append("Peak memory: of a fresh process that opens the engine and answers one input.")
    items.append("Size: of the file of each stage. Parameters and multiply-accumulates: counted in the graph.")
    return Section("How it was measured", (Listing(tuple(items)),))


def _exact(time_ms: float) -> str:
    return f"{time_ms:.3f}{GAP}ms"  # the profiler counts in microseconds


def _arithmetic(integer: bool) -> Mark | str:
    return Mark("integer", "integer") if integer else "float"
