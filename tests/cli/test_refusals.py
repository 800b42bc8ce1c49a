"""Bad input, one by one: exit code 2, an empty standard output, and a sentence with what, where and what to do."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# What each message must hold: what is wrong, where, and what to do. Written by hand from the design, not from a run.
EXPECTED = {
    "no target": ("--target is missing", "null, x86-cpu", "Example: --target x86-cpu"),
    "target": ("'x86'", "Did you mean x86-cpu?", "null, x86-cpu"),
    "command": ("unknown command 'verfy'", "Did you mean 'verify'?", "doctor, init, recipes, run, targets, verify"),
    "flag": ("unknown flag '--epoch-scale'", "Did you mean --epochs-scale?", "--help"),
    "number": ("--threads", "'many'", "--help"),
    "threads": ("--threads 0", "at least one"),
    "devices": ("--devices 0", "at least one"),
    "seed": ("--seed -1", "from 0"),
    "epochs": ("--epochs-scale nan", "above 0"),
    "budget word": ("--max-latency-ms 'fast'", "not a number", "5ms"),
    "budget unit": ("--max-latency-ms '5s'", "in ms", "5ms"),
    "budget sign": ("--max-accuracy-drop '-1'", "negative"),
    "budget nan": ("--min-speedup 'nan'", "not a finite number", "4x"),
    "budget zero": ("--max-size-mb '0'", "zero", "2.5MB"),
    "budget size": ("--max-memory-mb '2GB'", "in MB", "256MB"),
    "target file": ("raising.py", "ZeroDivisionError", "Repair the file"),
    "recipe": ("unknown recipe 'digit'", "Did you mean 'digits'?", "cifar10-resnet56, clinc150, digits, fashion-mnist"),
    "recipe file": ("no recipe file ./nowhere.py", "compress init"),
    "syntax": ("syntax.py, line 1", "SyntaxError", "Repair it"),
    "nothing": ("./nothing.py", "no RECIPE", "compress init"),
    "raising": ("raising.py, line 3", "ZeroDivisionError: division by zero", "Repair it"),
    "importing": ("importing.py, line 1", "No module named 'nowhere'", "Repair it"),
    "leaving": ("leaving.py, line 3", "SystemExit: goodbye", "Repair it"),
    "disorder": ("stage 'build' takes onnx", "'quantize' gives torch", "The order is distill, prune"),
    "data": ("--data nowhere", "no such folder"),
    "no data": ("no folder of pictures", "--data"),
    "empty": ("empty holds 0 folders", "at least two classes"),
    "one class": ("one-colour holds 1 folders of pictures (red)", "at least two classes"),
    "files": (
        "train-images",
        "train-labels",
        "t10k-images",
        "t10k-labels",
        "looked into photos",
        "Put what is missing",
    ),
    "networks": ("resnet56-4bfd9763.th", "resnet20-12fca82f.th", "looked into photos"),
    "nan": ("arrays", "index 42", "NaN", "Repair it"),
    "label": ("arrays", "index 42", "label 4", "0 … 3"),
    "no weights": ("weights of the teacher", "nowhere.pt", "looked into photos"),
    "cut short": ("cut_short.pt", "cut short or damaged", "again"),
    "wider": ("wider.pt", "conv1.weight (24, 3, 3, 3) for (16, 3, 3, 3)", "checkpoint of this network"),
    "renamed": ("renamed.pt", "1 missing: conv2.weight", "1 unexpected: layer2.weight"),
    "malicious": ("malicious.pt", "would run", "not opened", "state_dict()"),
    "guessing": ("the teacher answers", "24 validation inputs", "guessing gives 25.0 %", "Check"),
    "building": ("building the teacher with networks:unfinished", "'width'", "no argument"),
    "few": ("few has 2 validation inputs", "at least 4", "Add data"),  # 1/4 + 3·√(1/4 · 3/4 / n) < 1 from n = 4 on
    "three classes": ("the teacher answers 2 inputs with a tensor (2, 3)", "4 classes", "an output for each"),
    "grey": ("the teacher cannot answer inputs of shape (3, 16, 16)", "Check the size and channels"),
    "diverging": ("the training loss is", "Lower the learning rate"),
    "out file": ("a-file is not a folder", "--out"),
    "out read-only": ("/proc/compressed cannot be written", "--out"),
    "out full": ("cannot be written", "out-out-full", "--out"),
    "no bundle": ("photos is no bundle", "manifest.json"),
    "no bundle file": ("no folder nowhere", "--out"),
    "init module": ("--teacher nowhere:large", "No module named 'nowhere'", "looked for in"),
    "init name": ("--teacher networks:larg", "Did you mean 'large'?"),
    "init number": ("--teacher networks:number", "int", "cannot be called", "Name a function"),
    "init classes": ("networks:three_classes tells 3 classes apart", "photos holds 4"),
    "init size": ("--size", "'16' is no size", "224x224"),
    "init there": ("photos.py is there already", "--force"),
}


@pytest.fixture(scope="module")
def refusals(bad_inputs: ModuleType, warm_commands: ModuleType, warm: Any, world: Path) -> dict[str, Any]:
    """Every bad input, run."""
    commands = [
        warm_commands.Command(bad_inputs.arguments_of(name), str(world), case.file_limit_bytes)
        for name, case in bad_inputs.BAD_INPUTS.items()
    ]
    return dict(zip(bad_inputs.BAD_INPUTS, warm.run(commands), strict=True))


def test_each_of_the_bad_inputs_has_1_expectation(bad_inputs: ModuleType) -> None:
    assert sorted(bad_inputs.BAD_INPUTS) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_input_ends_with_exit_code_2_and_says_what_where_and_what_to_do(
    name: str, refusals: dict[str, Any]
) -> None:
    refusal = refusals[name]
    assert refusal.exit_code == 2, refusal.stderr
    assert refusal.stdout == ""
    assert "Traceback" not in refusal.stderr
    message = refusal.stderr.strip().splitlines()[-1]  # the lines before are those of the progress
    assert message.startswith("compress: ")
    assert [part for part in EXPECTED[name] if part not in message] == []
    # The longest names four missing files with two spellings each, or five layers with their shapes.
    assert len(message) < 420


def test_the_1_command_inside_a_checkpoint_is_not_run(
    refusals: dict[str, Any], bad_inputs: ModuleType, world: Path
) -> None:
    assert refusals["malicious"].exit_code == 2
    assert (world / "malicious.pt").read_bytes().count(bad_inputs.PAYLOAD.encode()) == 1  # it lay in wait
    assert not (world / bad_inputs.PAYLOAD).exists()


def test_0_of_the_refused_flags_leave_anything_on_the_disk(refusals: dict[str, Any], world: Path) -> None:
    assert refusals
    before_torch = ("target", "threads", "budget-word", "recipe", "epochs", "syntax", "no-weights")
    assert [name for name in before_torch if (world / f"out-{name}" / "work").exists()] == []
    assert not (world / "my_recipe.py").exists() or "RECIPE" in (world / "my_recipe.py").read_text()
