"""A report as Markdown: the tables of its drawings in place of the drawings."""

import re

from pipeline.report_blocks import Cell, Code, Figure, Listing, Mark, Part, Story, Table

SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&])")
BREAK = re.compile(r"[ \t\r\n\f\v\u0085\u2028\u2029]+")  # and not the narrow space before a unit


def markdown_from(story: Story) -> str:
    """The whole report, ending in a line break."""
    written = [f"# {escaped(story.title)}", escaped(story.lead)]
    if story.tiles:
        rows = tuple((tile.label, tile.value, tile.note) for tile in story.tiles)
        written.append(_table(Table(("", "", ""), rows, "lrl")))
    for section in story.sections:
        written.append(f"## {escaped(section.title)}")
        written += [_part(part) for part in section.parts]
    written += ["---", escaped(story.foot)]
    return "\n\n".join(written) + "\n"


def escaped(text: str) -> str:
    """`text` so that Markdown shows it as it is, on one line."""
    return SPECIAL.sub(r"\\\1", BREAK.sub(" ", text))


def _part(part: Part) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Figure):
        return f"### {escaped(part.title)}\n\n{_table(part.table)}\n\n{escaped(part.note)}"
    if isinstance(part, Listing):
        return "\n".join(f"- {escaped(item)}" for item in part.items)
    if isinstance(part, Code):
        return f"```sh\n{part.text}\n```"
    return escaped(part)


def _table(table: Table) -> str:
    rule = ["---:" if side == "r" else "---" for side in table.align]
    lines = [[escaped(name) for name in table.head], rule, *([_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Mark):
        return f"**{escaped(cell.text)}**" if cell.tone in ("missed", "undecided") else escaped(cell.text)
    return escaped(cell)
