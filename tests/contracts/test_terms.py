"""What holds for every distillation method that exists, without it being named here.

A method is a frozen dataclass with `__call__` and the two kinds of taps in a file of pipeline/distillation. Where it
wants layers, it is given one of each network.
"""

import importlib
import inspect
import json
from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pipeline.distillation
from pipeline.distillation.term import Answers, Term
from pipeline.store import digest_of, settings_of

FOLDER = Path(pipeline.distillation.__path__[0])
FLOOR = 2e-6  # a root that is kept from zero; what a method may cost where there is nothing to learn


def methods() -> list[Any]:
    """The term classes that the files of the folder define."""
    found: list[Any] = []
    for path in sorted(set(FOLDER.glob("*.py")) - {FOLDER / "__init__.py"}):
        module = importlib.import_module(f"pipeline.distillation.{path.stem}")
        classes: list[tuple[str, Any]] = inspect.getmembers(module, inspect.isclass)
        for _, each in classes:
            own = each.__module__ == module.__name__ and is_dataclass(each)
            if own and "__call__" in vars(each) and "student_taps" in {f.name for f in fields(each)}:
                found.append(each)
    return found


def made(method: type, **settings: Any) -> Any:
    """A term with its defaults, and one layer of each network where it has no default layers."""
    for field in fields(method):
        if field.name in ("student_taps", "teacher_taps") and field.default is MISSING:
            settings.setdefault(field.name, ("layer",))
    return method(**settings)


@pytest.fixture(params=methods(), ids=lambda method: method.__name__)
def term(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


def answers(seed: int, *, channels: int = 6, taps: tuple[str, ...] = ("layer",)) -> Answers:
    """Logits (8, 5) and maps (8, C, 4, 4) that want gradients."""
    random = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(8, 5, generator=random)).requires_grad_()
    return Answers(logits, {name: torch.randn(8, channels, 4, 4, generator=random).requires_grad_() for name in taps})


LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])


def rows(told: Answers, order: Tensor) -> Answers:
    return Answers(told.logits[order], {name: taps[order] for name, taps in told.taps.items()})


def test_at_least_2_methods_are_found() -> None:
    assert len(methods()) >= 2  # an empty listing would pass every other test


def test_a_method_is_frozen_and_names_its_taps_as_tuples(term: Term) -> None:
    with pytest.raises(FrozenInstanceError):
        term.student_taps = ()  # type: ignore[misc]
    assert isinstance(term.student_taps, tuple)
    assert isinstance(term.teacher_taps, tuple)
    assert len(term.student_taps) == len(term.teacher_taps)
    assert "arXiv" in (inspect.getdoc(inspect.getmodule(type(term))) or "")


def test_the_loss_of_a_batch_of_8_is_a_finite_scalar_above_0(term: Term) -> None:
    loss = term(answers(0), answers(1), LABELS)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert bool(loss.isfinite())
    assert loss.item() > 0


def test_the_gradient_reaches_the_student_and_0_of_it_the_teacher(term: Term) -> None:
    student, teacher = answers(0), answers(1)
    term(student, teacher, LABELS).backward()  # type: ignore[no-untyped-call]
    asked = [student.taps[name] for name in term.student_taps] or [student.logits]
    for tensor in asked:
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())
        assert bool(tensor.grad.ne(0).any())
    assert all(tensor.grad is None for tensor in (teacher.logits, *teacher.taps.values()))


def test_a_student_equal_to_the_teacher_costs_at_most_the_floor(term: Any) -> None:
    told = answers(0)
    if "weight" in {field.name for field in fields(term)}:
        term = replace(term, weight=1.0)  # no share of the labels: they are no part of matching
    loss = term(told, told, LABELS)
    assert -1e-6 <= loss.item() <= FLOOR  # −1e-6: float32 rounding of a sum that is zero
    loss.backward()
    asked = [told.taps[name] for name in term.student_taps] or [told.logits]
    assert all(tensor.grad is not None and bool(tensor.grad.isfinite().all()) for tensor in asked)


def test_the_order_of_8_inputs_does_not_matter(term: Term) -> None:
    student, teacher = answers(0), answers(1)
    order = torch.tensor([3, 7, 0, 5, 1, 6, 2, 4])
    mixed = term(rows(student, order), rows(teacher, order), LABELS[order])
    # The same eight numbers summed in another order, in float32.
    torch.testing.assert_close(mixed, term(student, teacher, LABELS), rtol=1e-5, atol=1e-6)


def test_under_bfloat16_autocast_the_loss_is_within_2_percent(term: Term) -> None:
    student, teacher = answers(0), answers(1)
    expected = term(student, teacher, LABELS)
    half = Answers(student.logits.bfloat16(), {name: taps.bfloat16() for name, taps in student.taps.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = term(half, teacher, LABELS)
    assert loss.dtype == torch.float32  # a loss is summed over a long epoch
    # bfloat16 keeps 8 bits: each input is off by up to 0.4 %.
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0.0)


def test_the_student_may_have_3_channels_where_the_teacher_has_6(term: Term) -> None:
    assert bool(term(answers(0, channels=3), answers(1), LABELS).isfinite())


def test_settings_survive_json_and_each_of_them_changes_the_digest(term: Any) -> None:
    told = settings_of(term)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["is"] == type(term).__name__
    for field in fields(term):
        value = getattr(term, field.name)
        if isinstance(value, float):
            other: Any = value / 2
        elif isinstance(value, (bool, int)):
            other = not value if isinstance(value, bool) else value + 1
        else:
            continue
        assert digest_of(replace(term, **{field.name: other})) != digest_of(term), field.name
    restored = type(term)(
        **{
            field.name: tuple(told[field.name]) if isinstance(told[field.name], list) else told[field.name]
            for field in fields(term)
        }
    )
    assert restored == term
