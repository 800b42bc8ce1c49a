"""The report: every number in it comes from the manifest, every text is escaped, nothing is fetched."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import write_bundle
from pipeline.report import story_from
from pipeline.report_blocks import Table
from pipeline.report_charts import Bar, Dot, bars_chart, dots_chart, histogram_chart, histogram_range, ticks, ticks_log
from pipeline.report_markdown import markdown_from
from pipeline.report_page import page_from
from pipeline.report_words import amount, digits, interval_words, milliseconds, percent, points, seconds, size

ALONE = {"meta", "line", "rect", "circle", "br"}  # elements that have no end


class Reader(HTMLParser):
    """Checks that every element that begins ends in order; collects text, and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "data", "xlink:href")
        ]
        if tag not in ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALONE, f"<{tag}/> has no end in HTML"
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> ends {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def bundle(finished: Any) -> Path:
    return write_bundle(finished.plan, finished.journey, dataset=finished.dataset)


@pytest.fixture
def manifest(bundle: Path) -> dict[str, Any]:
    read_back: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return read_back


def test_the_page_is_whole_and_fetches_nothing(bundle: Path) -> None:
    page = (bundle / "report.html").read_text()
    reader = read(page)
    assert reader.fetched == []
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert not re.search(r"https?://|url\(|@import", page)
    assert reader.tags.count("svg") == 4  # accuracy, latency, distribution, layers


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_both_forms_tell_each_of_4_stages_its_accuracy_and_each_of_3_verdicts(bundle: Path, name: str) -> None:
    text = (bundle / name).read_text()
    plain = re.sub(r"[ \n]+", " ", "".join(read(text).text)) if name.endswith("html") else text.replace("\\", "")
    rows = (
        "teacher torch 95.00\u202f% 40",
        "quantize torch 90.00\u202f% 40",
        "export onnx 90.00\u202f%",
        "build engine 90.00",
    )
    for row in rows:
        assert re.sub(r"[|\s]+", "", row) in re.sub(r"[|\s]+", "", plain)
    for word in (
        "at most 5\u202fms",
        "at least 1.5\u202f×",
        "at most 1\u202fpoint)",
        "needs about",
        "recipe by-hand",
        "undecided",
    ):
        assert word in plain
    assert "kept in floating point" in plain.lower()
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None)\b", plain)


def test_a_story_that_was_read_back_from_the_manifest_gives_the_very_page_of_the_bundle(
    bundle: Path, manifest: dict[str, Any]
) -> None:
    assert page_from(story_from(manifest)) == (bundle / "report.html").read_text()
    assert markdown_from(story_from(manifest)) == (bundle / "report.md").read_text()


def test_every_text_of_a_manifest_is_escaped_in_both_forms(manifest: dict[str, Any]) -> None:
    evil = "<img src=x onerror=alert(1)>|`\"'&amp;"

    def spoiled(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return value if key in ("limit", "verdict", "runtime") else value + evil
        if isinstance(value, dict):
            return {name: spoiled(inner, name) for name, inner in value.items()}
        return [spoiled(inner, key) for inner in value] if isinstance(value, list) else value

    story = story_from(spoiled(manifest))
    reader = read(page_from(story))
    assert "img" not in reader.tags
    assert evil in "".join(reader.text)
    told = markdown_from(story)
    assert "<img" not in told.replace("\\<img", "")
    head = next(line for line in told.splitlines() if line.startswith("| stage | form"))
    row = next(line for line in told.splitlines() if line.startswith("| teacher"))
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", head)) == 14


def test_a_run_without_pairs_layer_times_quantization_or_images_leaves_their_parts_out(
    manifest: dict[str, Any],
) -> None:
    bare = copy.deepcopy(manifest)
    bare["stages"][-1]["measurement"]["pairs"] = None
    bare["stages"][-1]["reasons"] = {"pairs": "it was not timed"}
    bare |= {"speedup": None, "quantization": None, "conditions": None, "verdicts": [], "exit_code": 0}
    bare["engine"] |= {"layer_times": [], "layer_times_missing": "the profiler failed"}
    bare["input"]["preprocess"] = None
    for row in bare["stages"]:
        row["facts"] = {}
    told = markdown_from(story_from(bare))
    assert "No budget was set" in told
    assert "No pairs of build: it was not timed." in told
    assert "was not measured: the profiler failed." in told
    assert "python run.py input.npy" in told
    for absent in ("teacher against engine", "Calibration alone", "7 bits"):
        assert absent not in told
    read(page_from(story_from(bare)))


def test_a_run_in_which_nothing_could_be_measured_is_still_told(manifest: dict[str, Any]) -> None:
    for row in manifest["stages"]:
        names = ("accuracy", "latency", "pairs", "parameters", "macs", "size_bytes", "peak_memory_bytes")
        row["measurement"] |= dict.fromkeys(names)
        numbers = (*names[3:], "accuracy", "accuracy_n", "latency_p50_ms", "latency_p99_ms")
        row |= dict.fromkeys(numbers) | {"reasons": dict.fromkeys(names, "the board is asleep")}
    manifest |= {"speedup": None, "accuracy_drop_points": None}
    told = markdown_from(story_from(manifest))
    assert "No accuracy of teacher, quantize, export and build: the board is asleep." in told
    assert read(page_from(story_from(manifest))).tags.count("svg") == 1  # the layers


def test_the_lead_says_missed_before_undecided_before_met(manifest: dict[str, Any]) -> None:
    manifest["verdicts"][0]["verdict"] = "missed"
    lead = story_from(manifest).lead
    assert (
        lead.index("Missed: p99 latency") < lead.index("Undecided: accuracy drop 5.00\u202fpoints") < lead.index("Met:")
    )


def test_a_table_with_a_row_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="2 columns has a row of 1"):
        Table(("a", "b"), (("1",),), "lr")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (digits(0.012345), "0.0123"), (digits(999.6), "1\u202f000"), (digits(9.996), "10.0"),
        (digits(-0.5), "-0.500"), (digits(12345.6), "12\u202f346"), (digits(0), "0"), (milliseconds(None), "–"),
        (milliseconds(0.4), "0.400\u202fms"), (size(999), "999\u202fB"), (size(2_500_000), "2.50\u202fMB"),
        (amount(1_234_567), "1.23\u202fM"), (amount(12345), "12\u202f345"), (percent(0.98765), "98.77\u202f%"),
        (points(-0.004), "0.00"), (points(-1.5), "−1.50"), (seconds(61.4), "1\u202fmin 01\u202fs"),
        (interval_words({"limit": "max_latency_ms", "interval": [1.0, None]}), "1.00 … open\u202fms"),
        (interval_words({"limit": "max_size_mb", "interval": [2.0, 2.0]}), "exact"),
    ],
)  # fmt: skip
def test_numbers_are_said_with_their_units(said: str, expected: str) -> None:
    assert said == expected


def test_the_axis_of_the_distribution_ends_at_995_of_1000_and_is_logarithmic_from_a_factor_of_8() -> None:
    quick = [0.1] * 996 + [500.0] * 4
    assert histogram_range([1.0] * 1000, quick) == (0.1, 1.0, True)
    assert histogram_range([0.5] * 1000, quick) == (0.1, 0.5, False)
    low, high, _ = histogram_range([2.0], [2.0])
    assert low < 2.0 < high


def test_the_shares_of_a_histogram_add_up_to_the_same_area_for_100_and_1000_samples() -> None:
    svg = histogram_chart([1.0 + i / 1000 for i in range(1000)], [1.5] * 100, names=("a", "b"), unit="ms", label="d")
    tall = {
        kind: [float(h) for h in re.findall(rf'class="{kind} veil".*?height="([\d.]+)"', svg)]
        for kind in ("other", "accent")
    }
    assert len(tall["accent"]) == 1
    # Every bar is rounded to a tenth of a unit: 64 of them are off by 3.2 at most.
    assert sum(tall["other"]) == pytest.approx(sum(tall["accent"]), abs=3.2)


def test_ticks_are_round_and_within_their_range() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(96.93, 98.61) == [97.0, 97.5, 98.0, 98.5]
    assert ticks_log(0.3, 7) == [0.5, 1, 2, 5]


def test_charts_of_one_row_of_zero_width_are_drawn_inside_their_frame() -> None:
    dots = dots_chart([Dot("<a>", 100.0, None, 100.0, "100 %")], guide=100.0, unit="%", label='"quoted"')
    bars = bars_chart([Bar("b" * 99, 0.0, "0", accent=True)], unit="ms", label="bars")
    for svg in (dots, bars):
        read(svg)
        assert "nan" not in svg
        places = [float(x) for x in re.findall(r' (?:x|x1|x2|cx)="([-\d.]+)"', svg)]
        assert all(0 <= x <= 720 for x in places)
    assert "&lt;a&gt;" in dots
    assert "&quot;quoted&quot;" in dots
