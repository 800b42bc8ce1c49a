"""The words of the errors."""

from pipeline import errors
from pipeline.errors import PipelineError, nearest


def test_one_wrong_letter_is_answered_with_the_name_that_was_meant() -> None:
    assert nearest("digit", ["fashion", "digits"], kind="recipe") == (
        "unknown recipe 'digit'. Did you mean 'digits'? There are: digits, fashion."
    )


def test_a_name_that_resembles_none_of_2_gets_the_list_alone() -> None:
    assert nearest("zzz", ["a1", "b2"], kind="target") == "unknown target 'zzz'. There are: a1, b2."


def test_every_error_of_the_tree_stops_the_command_with_exit_code_2() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PipelineError)]
    assert len(classes) > 9
    assert all(each.exit_code == 2 and each.__name__ in (errors.__doc__ or "") for each in classes)
