"""Imports go one way, read from every source file that exists.

The order, top to bottom; a file imports from layers below its own, from its own folder, and, where a layer is made of
single files, from files beside it. The four method folders never import each other, but one: quantization reads the
traced graph of graph/trace.py (decision 0002).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "targets", "calibration")
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))

LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("commands", "printing", "main_flags"),
    ("gate",),
    (
        "compress",
        "bundle",
        "manifest",
        "measure",
        "verify",
        "report",
        "finish_bundle",
        "finished_engine",
        "finished_manifest",
        "signing",
        "to_finish",
        "foreseen",
    ),
    ("recipes", "reached_device"),
    ("plan", "journey", "once", "asked", "post_training", "recipe_from_onnx"),
    ("recipe", "find_recipe"),
    ("stages",),
    ("distillation", "pruning", "quantization", "graph"),
    ("training",),
    ("stage",),
    ("candidate",),
    (
        "data",
        "models",
        "handover",
        "integrity",
        "examples_file",
        "lock",
        "store",
        "workers",
        "progress",
        "arguments",
        "kept_memory",
    ),
    ("errors",),
)
SHARED_GROUND = {("quantization", "pipeline.graph.trace")}

# Who alone may import what.
ONLY: dict[str, tuple[str, ...]] = {
    "pytorch_quantization": ("pipeline/quantization/fake_quant.py",),
    # The handed-over runner stands alone, and the doctor asks whether it is there.
    "onnxruntime": (
        "targets/engines/",
        "targets/on_device/",
        "pipeline/handover/opened_engine.py",
        "pipeline/commands/examine.py",
    ),
    "openvino": ("targets/engines/", "pipeline/handover/opened_engine.py"),
    "tensorrt": ("targets/on_device/",),
    # Its process alone: the compiler may end the one it runs in. The wheels have no module of the first name.
    "tensorrt_rtx": (),
    "tensorrt_rtx_bindings": ("targets/engines/tensorrt_rtx_build.py",),
    # On a device the clock is its own.
    "time": ("targets/stopwatch.py", "targets/on_device/"),
    "torch_pruning": ("pipeline/pruning/",),
    "sklearn": ("pipeline/data/sklearn_digits.py",),
    "rich": ("pipeline/progress.py",),
    "pickle": ("pipeline/models/checkpoint.py", "pipeline/data/cifar10.py"),  # to refuse, and to read arrays alone
    "lightning_fabric": ("pipeline/workers.py",),
}
# They set one variable, and read none: ONNX Runtime's telemetry is off where it is loaded without the command.
SILENCED = ("pipeline.handover.opened_engine", "targets.on_device.onnx_runtime_session")
NOWHERE = ("cloudpickle", "dill", "joblib", "marshal", "shelve")


def name_of(path: Path) -> str:
    """`pipeline/data/dataset.py` → `pipeline.data.dataset`; a package is named by its folder."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


TREES = {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
FOLDERS = {name_of(path) for path in FILES if path.stem == "__init__"}


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None, int]]:
    """(module, name taken from it or None, line) of every import, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None, node.lineno) if inner in TREES else (str(node.module), alias.name, node.lineno)


def layer_of(module: str) -> tuple[int, str]:
    """The layer of a module of `pipeline`, and the file or folder that stands in it."""
    unit = module.split(".")[1]
    unit = "report" if unit.startswith("report_") else unit
    for depth, units in enumerate(LAYERS):
        if unit in units:
            return depth, unit
    raise AssertionError(f"pipeline/{unit} has no layer: write it into LAYERS of {Path(__file__).name}")


def test_more_than_90_files_are_read() -> None:
    assert len(FILES) > 90  # an empty listing would pass every other test


def test_every_layer_names_files_or_folders_that_exist() -> None:
    gone = [unit for units in LAYERS for unit in units if f"pipeline.{unit}" not in TREES]
    assert gone == []


@pytest.mark.parametrize("module", [name for name in TREES if name.startswith("pipeline.")])
def test_a_file_of_pipeline_imports_only_from_layers_below_its_own(module: str) -> None:
    depth, unit = layer_of(module)
    wrong = []
    for imported, _, line in imports(TREES[module]):
        if imported.split(".")[0] != "pipeline" or imported in FOLDERS:  # a folder is imported to be listed
            continue
        other_depth, other = layer_of(imported)
        beside = other == unit or (other_depth == depth and f"pipeline.{other}" not in FOLDERS)
        if not (other_depth > depth or beside or (unit, imported) in SHARED_GROUND):
            wrong.append(f"line {line} imports {imported}")
    assert wrong == []


@pytest.mark.parametrize("package", ["targets", "calibration"])
def test_targets_and_calibration_know_neither_pipeline_nor_each_other(package: str) -> None:
    wrong = [
        f"{module}, line {line}: {imported}"
        for module, tree in TREES.items()
        if module.split(".")[0] == package
        for imported, _, line in imports(tree)
        if imported.split(".")[0] in set(PACKAGES) - {package}
    ]
    assert wrong == []


def test_only_eager_of_all_the_engines_imports_torch() -> None:
    who = {module for module, tree in TREES.items() for name, _, _ in imports(tree) if name.split(".")[0] == "torch"}
    assert {module for module in who if module.startswith("targets.")} == {"targets.engines.eager"}


def test_there_is_no_circle_of_imports() -> None:
    edges = {
        module: {name for name, _, _ in imports(tree) if name in TREES and name not in FOLDERS}
        for module, tree in TREES.items()
    }
    while free := [module for module, needs in edges.items() if not needs & edges.keys()]:
        for module in free:
            del edges[module]
    assert sorted(edges) == []


@pytest.mark.parametrize("module", list(TREES))
def test_imports_are_absolute_whole_and_from_the_file_that_defines_the_name(module: str) -> None:
    tree, wrong = TREES[module], []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or any(alias.name == "*" for alias in node.names)):
            wrong.append(f"line {node.lineno}: relative or with a star")
    for imported, name, line in imports(tree):
        if imported.split(".")[0] not in PACKAGES:
            continue
        if imported not in TREES:
            wrong.append(f"line {line}: there is no {imported}")
        elif name is not None and name not in defined_in(TREES[imported]):
            wrong.append(f"line {line}: {name} is not defined in {imported}")
    assert wrong == []


def defined_in(tree: ast.Module) -> set[str]:
    """Functions, classes and variables at the top of a file, also behind an `if` or `try`."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
        elif isinstance(node, (ast.If, ast.Try)):
            waiting += [each for each in ast.walk(node) if isinstance(each, ast.stmt) and each is not node]
    return found


@pytest.mark.parametrize("package", [*ONLY, *NOWHERE])
def test_a_package_with_1_place_is_imported_nowhere_else(package: str) -> None:
    allowed = ONLY.get(package, ())
    wrong = [
        f"{module}, line {line}"
        for path, module in zip(FILES, map(name_of, FILES), strict=True)
        for imported, _, line in imports(TREES[module])
        if imported.split(".")[0] == package
        and not any(path.relative_to(REPOSITORY).as_posix().startswith(place) for place in allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("module", list(TREES))
def test_the_environment_is_read_in_cli_and_words_are_printed_in_the_cli_and_the_handed_over_runner(
    module: str,
) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"):
            assert module in ("pipeline.cli", *SILENCED), f"{module}, line {node.lineno} reads the environment"
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Name) and called.id in ("print", "input", "eval", "exec", "breakpoint"):
            assert module.startswith("pipeline.handover."), f"{module}, line {called.lineno} calls {called.id}()"
