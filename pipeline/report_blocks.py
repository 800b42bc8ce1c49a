"""What a report is made of, before it is Markdown or HTML: a story of sections, each of plain parts.

A text in here is plain text; who writes it out escapes it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A word with a tone: met, missed, undecided, integer or quiet."""

    text: str
    tone: str


Cell = str | Mark


@dataclass(frozen=True)
class Table:
    """Rows under a head; `align` has an l or an r per column."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    align: str

    def __post_init__(self) -> None:
        for row in (self.head, self.align, *self.rows):
            if len(row) != len(self.head):
                raise ValueError(f"a table of {len(self.head)} columns has a row of {len(row)}: {row}")


@dataclass(frozen=True)
class Figure:
    """A drawing, and the same numbers as a table for where there is none.

    svg: safe to embed as it is · note: how to read it
    """

    title: str
    svg: str
    note: str
    table: Table


@dataclass(frozen=True)
class Listing:
    """Points, each a sentence."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to be typed into a shell."""

    text: str


Part = str | Table | Figure | Listing | Code  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """A title and what stands under it."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Tile:
    """One number of the headline."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Story:
    """The whole report.

    outcome: met, missed or undecided · lead: the verdict in a sentence
    """

    title: str
    outcome: str
    lead: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    foot: str
