"""A report as one HTML page: nothing is fetched, light and dark, made to be printed too."""

from html import escape

from pipeline.report_blocks import Cell, Code, Figure, Listing, Mark, Part, Story, Table

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1d2126; --soft: #626b76; --line: #e3e5e8;
  --accent: #0f6fb8; --other: #b3bac3; --met: #1a7f4b; --missed: #c0362c; --undecided: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1b1f24; --ink: #e4e7ea; --soft: #98a2ad;
  --line: #2d333a; --accent: #57a9e8; --other: #5b6570; --met: #4cc38a; --missed: #ff7b72; --undecided: #d9a63a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.01em; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 44px 0 12px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 15px; margin: 0 0 6px; }
p { margin: 0 0 12px; max-width: 76ch; } ul { margin: 0 0 12px; padding-left: 20px; max-width: 80ch; }
.lead { font-size: 17px; } .badge { font-size: 15px; font-weight: 600; letter-spacing: 0; padding: 2px 12px;
  border-radius: 99px; border: 1.5px solid; vertical-align: 5px; margin-left: 8px; white-space: nowrap; }
.met { color: var(--met); } .missed { color: var(--missed); } .undecided { color: var(--undecided); }
td .met, td .missed, td .undecided { font-weight: 600; } td .integer { color: var(--accent); }
.quiet, .note, footer { color: var(--soft); } .note { font-size: 13px; margin: 6px 0 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(178px, 1fr)); gap: 12px; margin: 26px 0 0; }
.tile, figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.tile b { display: block; font-size: 24px; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.tile span, .tile small { color: var(--soft); font-size: 13px; line-height: 1.4; display: block; }
.wide { overflow-x: auto; margin: 0 0 14px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 500; white-space: nowrap; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:last-child, th:last-child { padding-right: 0; } th.r, td.r { text-align: right; white-space: nowrap; }
td.l { overflow-wrap: break-word; } td span, td.l:first-child { white-space: nowrap; }
figure { margin: 18px 0; } figure svg { display: block; width: 100%; max-width: 820px; height: auto; }
svg text { font-size: 12px; font-variant-numeric: tabular-nums; } svg .ink { fill: var(--ink); }
svg .soft { fill: var(--soft); font-size: 11px; } svg .accent { fill: var(--accent); }
svg .other { fill: var(--other); }
svg .veil { opacity: .8; } svg .rule { stroke: var(--line); } svg .whisker { stroke: var(--ink); stroke-width: 1.3; }
svg .guide { stroke: var(--soft); stroke-dasharray: 4 4; }
details { margin-top: 10px; font-size: 13px; } summary { cursor: pointer; color: var(--soft); }
details table { margin-top: 8px; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto;
  font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 0 0 12px; }
footer { margin-top: 44px; padding-top: 14px; border-top: 1px solid var(--line); font-size: 13px; }
@media print { @page { size: A4; margin: 14mm; } main { padding: 0; max-width: none; }
  body { font-size: 12px; background: none; }
  table { font-size: 9.5px; } th, td { padding: 3px 8px 3px 0; } .wide { overflow: visible; } details { display: none; }
  figure, .tile, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .tiles { grid-template-columns: repeat(5, 1fr); } }
"""


def page_from(story: Story) -> str:
    """The whole page."""
    title = escape(story.title)
    head = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n"
    )
    lead = (
        f'<h1>{title} <span class="badge {_tone(story.outcome)}">{escape(story.outcome)}</span></h1>\n'
        f'<p class="lead">{escape(story.lead)}</p>'
    )
    tiles = "".join(
        f'<div class="tile"><span>{escape(tile.label)}</span><b>{escape(tile.value)}</b>'
        f"<small>{escape(tile.note)}</small></div>"
        for tile in story.tiles
    )
    sections = "\n".join(
        f"<section>\n<h2>{escape(section.title)}</h2>\n{''.join(_part(part) for part in section.parts)}</section>"
        for section in story.sections
    )
    return (
        f'{head}<body>\n<main>\n{lead}\n<div class="tiles">{tiles}</div>\n{sections}\n'
        f"<footer>{escape(story.foot)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _part(part: Part) -> str:
    if isinstance(part, Table):
        return f'<div class="wide">{_table(part)}</div>\n'
    if isinstance(part, Figure):
        return (
            f"<figure>\n<h3>{escape(part.title)}</h3>\n{part.svg}\n"
            f'<figcaption class="note">{escape(part.note)}</figcaption>\n'
            f'<details><summary>the numbers</summary><div class="wide">{_table(part.table)}</div></details>\n'
            "</figure>\n"
        )
    if isinstance(part, Listing):
        return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in part.items)}</ul>\n"
    if isinstance(part, Code):
        return f"<pre><code>{escape(part.text)}</code></pre>\n"
    return f"<p>{escape(part)}</p>\n"


def _table(table: Table) -> str:
    head = "".join(
        f'<th class="{side}" scope="col">{escape(name)}</th>'
        for side, name in zip(table.align, table.head, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(_cell(cell, side) for side, cell in zip(table.align, row, strict=True))}</tr>\n"
        for row in table.rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>"


def _cell(cell: Cell, side: str) -> str:
    if isinstance(cell, Mark):
        return f'<td class="{side}"><span class="{_tone(cell.tone)}">{escape(cell.text)}</span></td>'
    return f'<td class="{side}">{escape(cell)}</td>'


def _tone(tone: str) -> str:
    return tone if tone in ("met", "missed", "undecided", "integer", "quiet") else ""
