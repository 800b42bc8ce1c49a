"""The result of a calibration: for each named tensor, from where to where its values go.

The JSON form has one object per name, sorted by name; floats are written with `repr`, so that reading gives back the
same bits:

    {"layer1.relu": {"high": 5.25, "low": 0.0, "notes": ["outliers: …"]}}
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from calibration.errors import LayerRefused, RangesUnreadable


@dataclass(frozen=True)
class Range:
    """From where to where the values of one tensor go; both ends are finite."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"a range goes from a finite low to a finite high, not from {self.low} to {self.high}")


@dataclass(frozen=True)
class Ranges:
    """Ranges by the name of their tensor, and what is worth saying about some of them.

    notes: name → remarks such as "constant (always 3.0)", "dead (always 0)" or "outliers: …"
    """

    by_name: Mapping[str, Range]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Range:
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise LayerRefused(f"no range was taken for {name!r}. There are ranges for: {known}.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.by_name))

    def __len__(self) -> int:
        return len(self.by_name)

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def non_negative(self, name: str) -> bool:
        """Whether no value below zero was seen, as after a ReLU."""
        return self[name].low >= 0.0

    def to_json(self) -> str:
        """Readable text that `ranges_from_json` turns back into equal ranges."""
        entries = {
            name: {"low": self[name].low, "high": self[name].high, "notes": list(self.notes.get(name, ()))}
            for name in self
        }
        return json.dumps(entries, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def ranges_from_json(text: str, *, origin: str = "the given text") -> Ranges:
    """Ranges from what `Ranges.to_json` wrote.

    origin: where the text comes from (a path), for messages

    Raises:
        RangesUnreadable: the text is no JSON, or not of this form.
    """
    try:
        entries = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RangesUnreadable(f"{origin} holds no JSON ({error}). Run the calibration again.") from None
    if not isinstance(entries, dict):
        raise RangesUnreadable(f"{origin} holds a {type(entries).__name__} where ranges by name are expected.")
    by_name, notes = {}, {}
    for name, entry in entries.items():
        try:
            by_name[name], remarks = _entry(entry)
        except (ValueError, OverflowError) as error:
            raise RangesUnreadable(f"{origin}: the entry {name!r} is unusable: {error}.") from None
        if remarks:
            notes[name] = remarks
    return Ranges(by_name, notes)


def _entry(entry: object) -> tuple[Range, tuple[str, ...]]:
    if not isinstance(entry, dict) or set(entry) - {"notes"} != {"low", "high"}:
        raise ValueError("it needs the keys low and high, and may have notes")
    for key in ("low", "high"):
        if isinstance(entry[key], bool) or not isinstance(entry[key], int | float):
            raise ValueError(f"{key} is {entry[key]!r}, not a number")
    remarks = entry.get("notes", [])
    if not isinstance(remarks, list) or not all(isinstance(remark, str) for remark in remarks):
        raise ValueError(f"notes is {remarks!r}, not a list of sentences")
    return Range(float(entry["low"]), float(entry["high"])), tuple(remarks)
