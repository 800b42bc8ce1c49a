"""What is sent to a device runs on Python 3.8 with nothing installed: read from its source."""

import ast
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "targets" / "on_device"
FILES = sorted(FOLDER.glob("*.py"))
# Who may import what is not of the standard library, and only inside a function: where it is missing a sentence says so
RUNTIMES = {"onnxruntime": "onnx_runtime", "numpy": "onnx_runtime", "tensorrt": "tensor_rt"}


def test_more_than_4_files_are_read() -> None:
    assert len(FILES) > 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_for_the_device_is_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))  # raises SyntaxError
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_for_the_device_imports_the_standard_library_and_its_own_folder(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    wrong = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        for name in names:
            first = name.split(".")[0]
            own = name.startswith("targets.on_device")
            runtime = path.stem.startswith(RUNTIMES.get(first, "?")) and id(node) not in top
            if not (own or runtime or first in sys.stdlib_module_names):
                wrong.append(f"line {node.lineno} imports {name}")
    assert wrong == []
