"""Ranges survive JSON to the bit, and unusable text is refused by name."""

import json
import math

import pytest

from calibration.errors import LayerRefused, RangesUnreadable
from calibration.ranges import Range, Ranges, ranges_from_json

SMALLEST = 5e-324  # the smallest positive float


def some_ranges() -> Ranges:
    by_name = {"z": Range(0.0, 0.1 + 0.2), "a": Range(-math.pi, 1e300), "m.1": Range(-SMALLEST, SMALLEST)}
    return Ranges(by_name, {"z": ("dead (always 0)", "größer als 12×")})


def test_3_ranges_come_back_from_json_to_the_bit() -> None:
    back = ranges_from_json(some_ranges().to_json())
    assert back == some_ranges()
    # == takes 0.0 and −0.0 for equal; hex does not.
    assert [back[name].low.hex() for name in back] == [some_ranges()[name].low.hex() for name in back]


def test_json_of_3_ranges_is_sorted_and_the_same_text_twice() -> None:
    text = some_ranges().to_json()
    assert list(json.loads(text)) == ["a", "m.1", "z"] == list(some_ranges())
    assert ranges_from_json(text).to_json() == text


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0)])
def test_4_impossible_ranges_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="from a finite low to a finite high"):
        Range(low, high)


def test_a_range_that_begins_at_0_is_non_negative_and_one_below_is_not() -> None:
    assert some_ranges().non_negative("z")
    assert not some_ranges().non_negative("m.1")


def test_a_name_without_range_is_refused_with_the_3_names_that_have_one() -> None:
    with pytest.raises(LayerRefused, match=r"no range was taken for 'b'\. There are ranges for: a, m\.1, z"):
        some_ranges()["b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "holds no JSON"),
        ("[1, 2]", "holds a list"),
        ('{"a": 3}', "'a' is unusable: it needs the keys low and high"),
        ('{"a": {"low": 0}}', "'a' is unusable: it needs the keys low and high"),
        ('{"a": {"low": 0, "high": 1, "scale": 2}}', "'a' is unusable: it needs the keys low and high"),
        ('{"a": {"low": 0, "high": "1"}}', "high is '1', not a number"),
        ('{"a": {"low": false, "high": 1}}', "low is False, not a number"),
        ('{"a": {"low": 0, "high": NaN}}', "'a' is unusable: a range goes from"),
        ('{"a": {"low": 2, "high": 1}}', "'a' is unusable: a range goes from"),
        ('{"a": {"low": 0, "high": 1' + "0" * 400 + "}}", "'a' is unusable"),
        ('{"a": {"low": 0, "high": 1, "notes": "dead"}}', "not a list of sentences"),
    ],
)
def test_11_unusable_texts_are_refused_with_the_name_of_their_file(text: str, words: str) -> None:
    with pytest.raises(RangesUnreadable) as refused:
        ranges_from_json(text, origin="ranges.json")
    assert words in str(refused.value)
    assert str(refused.value).startswith("ranges.json")


def test_whole_numbers_1_and_2_are_read_as_floats() -> None:
    assert ranges_from_json('{"a": {"low": 1, "high": 2}}')["a"] == Range(1.0, 2.0)
