"""The listing is the explanation: how files are named, how long they are, and how they begin."""

import ast
import builtins
import statistics
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "targets", "calibration")
SOURCES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
TOOLS = sorted((REPOSITORY / "tools").rglob("*.py"))
SAYS_NOTHING = {"utils", "util", "common", "helpers", "helper", "base", "core", "misc", "config", "constants", "types"}
# The last two have no other form: torch.autograd's function, and the reader that refuses what a pickle would run.
ANCESTORS = {"Module", "Exception", "Enum", "Protocol", "Function", "Unpickler"}
MARKS = ("TO" + "DO", "FIX" + "ME", "XX" + "X")


def shown(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def bases(tree: ast.Module) -> dict[str, list[str]]:
    """Class → the last word of each of its ancestors."""
    return {
        node.name: [ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases]
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


EXCEPTIONS = {
    name for path in SOURCES if path.name == "errors.py" for name in bases(ast.parse(path.read_text(encoding="utf-8")))
}


def test_more_than_90_sources_and_40_tests_are_read() -> None:
    assert len(SOURCES) > 90
    assert len(TESTS) > 40


def test_no_2_source_files_share_a_name() -> None:
    count = Counter(path.name for path in SOURCES if path.name not in ("__init__.py", "errors.py"))
    assert [name for name, times in count.items() if times > 1] == []


def test_no_2_test_files_share_a_name() -> None:
    count = Counter(path.name for path in TESTS if path.name != "conftest.py")
    assert [name for name, times in count.items() if times > 1] == []


def test_no_file_or_folder_has_1_of_the_names_that_say_nothing() -> None:
    parts = {part for path in [*SOURCES, *TESTS, *TOOLS] for part in path.relative_to(REPOSITORY).with_suffix("").parts}
    assert sorted(parts & SAYS_NOTHING) == []


def test_the_median_file_has_at_most_200_lines_and_the_longest_300() -> None:
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in [*SOURCES, *TESTS, *TOOLS]}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
    assert statistics.median(lengths[shown(path)] for path in SOURCES if path.name != "__init__.py") <= 200


def test_there_is_no_init_file_below_tests() -> None:
    assert [shown(path) for path in TESTS if path.name == "__init__.py"] == []


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {path.parent for path in SOURCES}
    assert [shown(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *TOOLS], ids=shown)
def test_a_file_opens_with_a_docstring_and_an_init_file_holds_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{shown(path)} opens without a docstring"
    if path.name == "__init__.py":
        assert len(tree.body) == 1


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_source_file_does_no_work_when_it_is_imported(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        loose = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        assert not loose, f"{shown(path)}, line {node.lineno}: a statement that runs at import"
        assert not isinstance(node, (ast.For, ast.While, ast.With, ast.Delete)), f"{shown(path)}, line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_class_inherits_from_1_of_6_ancestors_or_from_an_exception(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = bases(tree)
    wrong = {
        name: above for name, above in own.items()
        if any(base not in ANCESTORS | EXCEPTIONS and not _is_exception(base, own) for base in above)
    }  # fmt: skip
    assert wrong == {}


def _is_exception(base: str, own: dict[str, list[str]]) -> bool:
    exception = getattr(builtins, base, None)
    if isinstance(exception, type) and issubclass(exception, Exception):
        return True
    return bool(own.get(base)) and all(above in ("Exception", *EXCEPTIONS) for above in own[base])


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_a_default_is_never_a_list_a_dict_or_a_set_that_calls_share(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
            shared = [each for each in defaults if isinstance(each, (ast.List, ast.Dict, ast.Set))]
            assert not shared, f"{shown(path)}, line {node.lineno}"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *TOOLS], ids=shown)
def test_0_unfinished_remarks_are_left(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [mark for mark in MARKS if mark in text and path.name != Path(__file__).name] == []


def test_every_exception_stands_in_the_tree_at_the_top_of_its_file() -> None:
    for path in SOURCES:
        if path.name == "errors.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            drawn = ast.get_docstring(tree) or ""
            assert [name for name in bases(tree) if name not in drawn] == [], shown(path)


@pytest.mark.parametrize("path", TESTS, ids=shown)
def test_a_test_asserts_and_its_name_is_a_sentence_of_4_words_or_more(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        assert len(node.name.split("_")) >= 5, f"{node.name} says too little"
        checks = [
            each for each in ast.walk(node)
            if isinstance(each, ast.Assert)
            or (isinstance(each, ast.Call) and any(word in ast.unparse(each.func) for word in CHECKING))
        ]  # fmt: skip
        passes = "locked" in ast.unparse(node)  # entering the block is what is tested
        assert checks or passes, f"{shown(path)}: {node.name} checks nothing"


CHECKING = ("raises", "assert_", "fail", "check", "refused", "same", "verify")
