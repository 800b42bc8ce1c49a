"""The drawings of a report, as SVG that takes its colours from the page's style sheet.

Every function takes plain numbers and gives one self-contained `<svg>`; every text in it is escaped.

Classes the page defines: ink, soft (text) · accent, other (fills) · rule, guide, whisker (lines).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
LEFT, RIGHT = 150, 90  # room for names, and for the value behind a bar
ROW = 26
BINS = 64
WIDE = 8.0  # a range over which a linear axis would squeeze the faster network into a few bins
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Dot:
    """A value with an interval; None for an end that is open."""

    name: str
    value: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Bar:
    """A length; `tick` is a second, thinner mark on the same axis."""

    name: str
    value: float
    text: str
    accent: bool
    tick: float | None = None


def dots_chart(dots: Sequence[Dot], *, guide: float, unit: str, label: str) -> str:
    """Values with whiskers in rows, on an axis that shows only their range; `guide` is drawn through all rows."""
    ends = [end for dot in dots for end in (dot.value, dot.low, dot.high, guide) if end is not None]
    low, high = min(ends), max(ends)
    margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.01
    low, high = low - margin, high + margin
    height = ROW * len(dots) + 40

    def x(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    drawn = [_axis(ticks(low, high), x, height - 26, unit=unit)]
    drawn.append(_line(x(guide), 6, x(guide), height - 30, "guide"))
    for place, dot in enumerate(dots):
        y = 16 + ROW * place
        drawn.append(_text(LEFT - 12, y + 4, dot.name, "ink", anchor="end"))
        if dot.low is not None or dot.high is not None:
            ends_x = [x(low if dot.low is None else dot.low), x(high if dot.high is None else dot.high)]
            drawn.append(_line(ends_x[0], y, ends_x[1], y, "whisker"))
            drawn += [_line(end, y - 4, end, y + 4, "whisker") for end in ends_x]
        drawn.append(f'<circle class="accent" cx="{x(dot.value):.1f}" cy="{y}" r="4.5"/>')
        drawn.append(_text(WIDTH - RIGHT + 12, y + 4, dot.text, "ink"))
    return _svg(drawn, height, label)


def bars_chart(bars: Sequence[Bar], *, unit: str, label: str, left: int = LEFT) -> str:
    """Lengths in rows, from zero."""
    longest = max([bar.value for bar in bars] + [bar.tick for bar in bars if bar.tick is not None]) or 1.0
    height = ROW * len(bars) + 40

    def x(value: float) -> float:
        return left + value / longest * (WIDTH - left - RIGHT)

    drawn = [_axis(ticks(0, longest), x, height - 26, unit=unit)]
    for place, bar in enumerate(bars):
        y = 16 + ROW * place
        kind = "accent" if bar.accent else "other"
        drawn.append(_text(left - 12, y + 4, shortened(bar.name, left // 7), "ink", anchor="end", title=bar.name))
        drawn.append(
            f'<rect class="{kind}" x="{left}" y="{y - 8}" width="{max(x(bar.value) - left, 1):.1f}" '
            'height="16" rx="2"/>'
        )
        if bar.tick is not None:
            drawn.append(_line(x(bar.value), y, x(bar.tick), y, "whisker"))
            drawn.append(_line(x(bar.tick), y - 5, x(bar.tick), y + 5, "whisker"))
        drawn.append(_text(WIDTH - RIGHT + 12, y + 4, bar.text, "ink"))
    return _svg(drawn, height, label)


def histogram_chart(
    reference: Sequence[float], candidate: Sequence[float], *, names: tuple[str, str], unit: str, label: str
) -> str:
    """Two distributions over one axis, logarithmic where they lie far apart; what is beyond it is in the last bin."""
    low, high, logarithmic = histogram_range(reference, candidate)
    low_u, high_u = (math.log(low), math.log(high)) if logarithmic else (low, high)
    height, floor, left, right = 240, 200, 20, WIDTH - 20

    def share(value: float) -> float:
        u = math.log(max(value, low)) if logarithmic else value
        return min(max((u - low_u) / (high_u - low_u), 0.0), 1.0)

    def x(value: float) -> float:
        return left + share(value) * (right - left)

    marks = ticks_log(low, high) if logarithmic else ticks(low, high)
    drawn = [_axis(marks, x, floor + 14, unit=unit, top=34)]
    counts = []
    for samples in (reference, candidate):
        bins = [0] * BINS
        for sample in samples:
            bins[min(int(share(sample) * BINS), BINS - 1)] += 1
        counts.append([bin_count / len(samples) for bin_count in bins])
    highest = max(max(each) for each in counts)
    wide = (right - left) / BINS
    for kind, shares in zip(("other", "accent"), counts, strict=True):
        for place, part in enumerate(shares):
            if part:
                tall = part / highest * (floor - 40)
                drawn.append(
                    f'<rect class="{kind} veil" x="{left + place * wide:.1f}" y="{floor - tall:.1f}" '
                    f'width="{wide - 1:.1f}" height="{tall:.1f}"/>'
                )
    drawn.append(_line(left, floor, right, floor, "rule"))
    for place, (kind, name) in enumerate(zip(("other", "accent"), names, strict=True)):
        drawn.append(f'<rect class="{kind}" x="{left + 230 * place}" y="8" width="12" height="12" rx="2"/>')
        drawn.append(_text(left + 230 * place + 18, 18, name, "ink"))
    return _svg(drawn, height, label)


def histogram_range(reference: Sequence[float], candidate: Sequence[float]) -> tuple[float, float, bool]:
    """Where the axis begins and ends, and whether it is logarithmic.

    It ends where 995 of 1 000 samples of both lie before: one answer of a second must not flatten the rest.
    """
    low = min(*reference, *candidate)
    high = max(sorted(each)[math.ceil(0.995 * len(each)) - 1] for each in (reference, candidate))
    if high <= low:
        low, high = 0.5 * low, 1.5 * high or 1.0
    return low, high, low > 0 and high / low > WIDE


def ticks(low: float, high: float, *, wanted: int = 5) -> list[float]:
    """Round values between `low` and `high`, about `wanted` of them."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in NICE if power * nice >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def ticks_log(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between `low` and `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{nice}e{power}") for power in powers for nice in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def shortened(text: str, most: int) -> str:
    """The end of a long name tells layers apart, so the beginning goes."""
    return text if len(text) <= most else "…" + text[-(most - 1) :]


def _axis(marks: list[float], x: Callable[[float], float], y: float, *, unit: str, top: float = 6) -> str:
    drawn = []
    for place, mark in enumerate(marks):
        name = f"{mark:g} {unit}" if place == len(marks) - 1 else f"{mark:g}"
        drawn.append(_line(x(mark), top, x(mark), y - 4, "rule"))
        drawn.append(_text(x(mark), y + 12, name, "soft", anchor="middle"))
    return "".join(drawn)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start", title: str = "") -> str:
    hint = f"<title>{escape(title)}</title>" if title and title != text else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{hint}{escape(text)}</text>'


def _svg(drawn: list[str], height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(drawn)}</svg>"
    )
