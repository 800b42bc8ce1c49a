"""Limits as users write them, and whose limit wins."""

import pytest

from targets.budget import LIMIT_KINDS, Budget, Limit, limit_from_text
from targets.errors import BudgetUnreadable


@pytest.mark.parametrize(
    ("name", "text", "bound"),
    [
        ("max_latency_ms", "5", 5.0),
        ("max_latency_ms", "5ms", 5.0),
        ("max_latency_ms", " 0.5 ms ", 0.5),
        ("max_latency_ms", "1e1", 10.0),
        ("min_speedup", "4x", 4.0),
        ("min_speedup", "1.5", 1.5),
        ("max_accuracy_drop_points", "0", 0.0),
        ("max_accuracy_drop_points", "1.5 points", 1.5),
        ("max_size_mb", "2.5MB", 2.5),
        ("max_memory_mb", ".5", 0.5),
    ],
)
def test_a_limit_is_read_with_and_without_its_unit(name: str, text: str, bound: float) -> None:
    assert limit_from_text(name, text, origin="command line") == Limit(name, bound, "command line")


@pytest.mark.parametrize(
    "text",
    ["nan", "inf", "-inf", "-1", "0", "1e999", "", "fast", "5s", "5 us", "4x", "5 5", "5,0", "0x10", "٣ms", "1_000"],
)
def test_a_senseless_latency_is_refused_with_flag_text_and_example(text: str) -> None:
    with pytest.raises(BudgetUnreadable) as refused:
        limit_from_text("max_latency_ms", text, origin="command line")
    for part in ("--max-latency-ms", f"'{text}'", "5ms"):
        assert part in str(refused.value)


def test_a_drop_of_minus_1_is_refused_and_a_speedup_of_0_too() -> None:
    with pytest.raises(BudgetUnreadable, match=r"--max-accuracy-drop .* negative"):
        limit_from_text("max_accuracy_drop_points", "-1", origin="command line")
    with pytest.raises(BudgetUnreadable, match="limits nothing"):
        limit_from_text("min_speedup", "0", origin="command line")


def test_every_example_reads_as_its_own_limit() -> None:
    assert len(LIMIT_KINDS) == 5
    for kind in LIMIT_KINDS:
        assert limit_from_text(kind.name, kind.example, origin="test").bound > 0


def test_a_limit_written_in_python_is_held_to_the_same_sense() -> None:
    with pytest.raises(BudgetUnreadable, match="my recipe"):
        Limit("max_size_mb", float("nan"), "my recipe")
    with pytest.raises(BudgetUnreadable, match="max_latency_ms"):
        Limit("max_latency", 5.0, "my recipe")
    with pytest.raises(BudgetUnreadable, match="origin"):
        Limit("max_size_mb", 1.0, "")


def test_the_command_line_wins_over_the_recipe_over_the_target_and_each_limit_keeps_its_origin() -> None:
    target = Budget((Limit("max_latency_ms", 33.3, "target"), Limit("max_accuracy_drop_points", 1.0, "target")))
    recipe = Budget((Limit("max_latency_ms", 10.0, "recipe"), Limit("min_speedup", 2.0, "recipe")))
    flags = Budget((Limit("max_latency_ms", 5.0, "command line"),))
    merged = flags.over(recipe.over(target))
    assert merged == flags.over(recipe).over(target)
    assert [(limit.name, limit.bound, limit.origin) for limit in merged.limits] == [
        ("max_latency_ms", 5.0, "command line"),
        ("min_speedup", 2.0, "recipe"),
        ("max_accuracy_drop_points", 1.0, "target"),
    ]
    assert merged.limit("max_size_mb") is None


def test_one_budget_does_not_set_a_limit_twice() -> None:
    with pytest.raises(BudgetUnreadable, match="max_size_mb is set twice"):
        Budget((Limit("max_size_mb", 1.0, "a"), Limit("max_size_mb", 2.0, "b")))
