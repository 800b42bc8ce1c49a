"""The times of both engines as two distributions over one axis: in characters, and as an SVG that stands alone.

GitHub's Markdown shows neither inline SVG nor data URIs; characters in a code block survive wherever text does.
"""

import math
from collections.abc import Callable, Sequence

from pipeline.report_charts import histogram_chart, histogram_range, ticks, ticks_log

CELLS = 64
BLOCKS = " ▁▂▃▄▅▆▇█"
NAMES = ("baseline", "candidate")
STYLE = """
.page { fill: #fff; } .ink { fill: #1d2126; } .soft { fill: #626b76; } .accent { fill: #0f6fb8; }
.other { fill: #b3bac3; } .veil { opacity: .8; } .rule { stroke: #e3e5e8; }
text { font: 12px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; } text.soft { font-size: 11px; }
@media (prefers-color-scheme: dark) { .page { fill: #14171a; } .ink { fill: #e4e7ea; } .soft { fill: #98a2ad; }
  .accent { fill: #57a9e8; } .other { fill: #5b6570; } .rule { stroke: #2d333a; } }
"""


def distribution_text(
    baseline: Sequence[float], candidate: Sequence[float], *, names: tuple[str, str] = NAMES, unit: str = "ms"
) -> str:
    """Two rows of block characters and their axis, ending in a line break; empty where there are no times.

    Both rows share one scale, so the same share of the times is the same height; what is beyond the axis (5 of 1 000
    at most, of the slower one) is in the last cell.
    """
    if len(baseline) == 0 or len(candidate) == 0:
        return ""
    low, high, logarithmic = histogram_range(baseline, candidate)
    low_u, high_u = (math.log(low), math.log(high)) if logarithmic else (low, high)

    def cell(value: float) -> int:
        u = math.log(max(value, low)) if logarithmic else value
        return min(max(int((u - low_u) / (high_u - low_u) * CELLS), 0), CELLS - 1)

    shares = [_shares(each, cell) for each in (baseline, candidate)]
    highest = max(max(each) for each in shares)
    wide = max(len(name) for name in names) + 2
    rows = [
        f"{name:<{wide}}{''.join(BLOCKS[math.ceil(8 * part / highest - 1e-9)] for part in each)}".rstrip()
        for name, each in zip(names, shares, strict=True)
    ]
    axis = _axis(ticks_log(low, high) if logarithmic else ticks(low, high), cell, unit=unit)
    return "\n".join([*rows, *(" " * wide + line for line in axis)]) + "\n"


def distribution_svg(
    baseline: Sequence[float], candidate: Sequence[float], *, names: tuple[str, str] = NAMES, unit: str = "ms"
) -> str:
    """The same as a file of its own, light or dark as its reader is; empty where there are no times."""
    if len(baseline) == 0 or len(candidate) == 0:
        return ""
    label = f"times of {names[0]} and {names[1]} in {unit}, as shares"
    drawn = histogram_chart(baseline, candidate, names=names, unit=unit, label=label)
    opened, rest = drawn.split(">", 1)
    return (
        opened.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        + f'><style>{STYLE}</style><rect class="page" width="100%" height="100%"/>{rest}\n'
    )


def _shares(samples: Sequence[float], cell: Callable[[float], int]) -> list[float]:
    counts = [0] * CELLS
    for sample in samples:
        counts[cell(sample)] += 1
    return [count / len(samples) for count in counts]


def _axis(marks: Sequence[float], cell: Callable[[float], int], *, unit: str) -> tuple[str, str]:
    """The line with its marks, and their figures below; a figure that would touch the one before is left out."""
    line, figures = ["─"] * CELLS, ""
    for mark in marks:
        place, said = cell(mark), f"{mark:g}"
        begin = max(place - len(said) // 2, 0)
        if figures and begin <= len(figures):
            continue
        line[place] = "┴"
        figures = figures.ljust(begin) + said
    return "".join(line) + f" {unit}", figures
