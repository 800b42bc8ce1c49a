"""Bad input, one by one: exit code 2, an empty standard output, and a sentence with what, where and what to do."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# What each message must hold: what is wrong, where, and what to do. Written by hand from the design, not from a run.
EXPECTED = {
    "no target": ("--target is missing", "arm64-cpu, jetson-orin, ", "Example: --target x86-cpu"),
    "target": ("'x86'", "Did you mean x86-cpu?", "x86-avx2, x86-cpu, x86-vnni"),
    "command": (
        "unknown command 'verfy'",
        "Did you mean 'verify'?",
        "build, devices, doctor, gate, init, recipes, run",
    ),
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
    "recipe": ("unknown recipe 'digit'", "Did you mean 'digits'?", "clinc150, digits, fashion-mnist"),
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
    "networks": ("resnet56-4bfd9763.th", "resnet20-12fca82f.th", "looked into photos", "data_batch_1.bin"),
    "nan": ("arrays", "index 42", "NaN", "Repair it"),
    "label": ("arrays", "index 42", "label 4", "0 … 3"),
    "no weights": ("weights of the teacher", "nowhere.pt", "looked into photos"),
    "cut short": ("cut_short.pt", "cut short or damaged", "again"),
    "wider": ("wider.pt", "conv1.weight (24, 3, 3, 3) for (16, 3, 3, 3)", "checkpoint of this network"),
    "renamed": ("renamed.pt", "1 missing: conv2.weight", "1 unexpected: layer2.weight"),
    "malicious": ("malicious.pt", "would run", "not opened", "state_dict()"),
    "guessing": ("the teacher answers", "24 validation inputs", "guessing gives 25.0 %", "Check"),
    "untrained": ("the teacher answers", "24 validation inputs", "guessing gives 25.0 %", "Check that weights"),
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
    "damaged": ("damaged is damaged", "missing: labels.json", "changed: engine.onnx", "Copy the bundle again"),
    "damaged run": ("the bundle damaged", "missing: labels.json", "changed: engine.onnx", "Copy the bundle again"),
    "baseline": ("damaged is damaged", "missing: labels.json", "changed: engine.onnx", "Copy the bundle again"),
    "baseline none": ("which bundle?", "compress baseline update BUNDLE"),
    "baseline action": ("unknown action 'updat'", "Did you mean 'update'?", "--help"),
    "baseline name": ("--name '../main'", "begin with a letter or digit", "--name main"),
    "baseline numbers": ("numbers.json holds numbers and no engine", "keep the bundle", "compress baseline update"),
    "gate": ("damaged is damaged", "missing: labels.json", "changed: engine.onnx", "Copy the bundle again"),
    "gate half": ("--baseline is missing", "Give the folder of a bundle"),
    "gate limit": ("--max-regression 0%", "a limit of zero", "such as 1%"),
    "gate share": ("--max-regression 2", "is that a share?", "2% or 0.02"),
    "gate word": ("--max-regression x", "give a share such as 2%"),
    "gate seconds": ("--max-seconds 1", "at least 5"),
    "gate points": ("--max-accuracy-drop -1", "points of 0 or more"),
    "gate file": ("nowhere/a.xml cannot be written", "no folder", "in a folder that is there"),
    "onnx": ("there is no file nowhere.onnx", "Name the ONNX file"),
    "onnx empty": ("nothing.onnx holds no ONNX network", "it is empty", "Name the .onnx file"),
    "onnx text": ("text.onnx is no ONNX file", "Name the .onnx file"),
    "onnx half": ("half.onnx", "it is cut short", "copy it again"),
    "onnx alone": ("alone.onnx", "in the file 'alone.bin', which is missing", "Put it beside alone.onnx"),
    "onnx newer": ("newer.onnx uses ONNX operator set 99", "9 to 20 are read", "Export it with opset_version=17"),
    "onnx closed": ("closed.onnx has 0 inputs (none)", "Export it with one input"),
    "onnx pair": ("pair.onnx has 2 inputs (left, right)", "Export it with one input"),
    "onnx open": ("open.onnx: axis 2 of the input 'pictures' is dynamic ('height')", "make_dynamic_shape_fixed"),
    "onnx words": ("words.onnx takes whole numbers of shape (3, 16, 16)", "no pictures", ".npy files of int64"),
    "onnx bytes": (
        "bytes.onnx: the input 'pictures' is of type uint8",
        "int64",
        "Export the network with one of these",
    ),
    "onnx codes": ("Cast node 'codes' turns values of the network into int8", "int64", "Export the network without it"),
    "onnx branch": ("If node 'choice' is control flow", "Export the network for one fixed path"),
    "onnx loop": ("Loop node 'turns' is control flow", "Export the network for one fixed path"),
    "onnx own": ("own.onnx uses operators that are not supported: acme.Whiten (1×)", "'whitening'", "without them"),
    "onnx integers": (
        "QuantizeLinear node 'quantizer'",
        "integers.onnx is quantized already",
        "Give the float network",
    ),
    "inputs": ("no folder of inputs was given", "--data"),
    "inputs none": ("empty: 0 different inputs can be read", "at least 20 are needed"),
    "inputs unreadable": ("unreadable: 0 different inputs can be read", "at least 20 are needed", "passed over"),
    "inputs same": ("same: 5 different inputs can be read", "at least 20 are needed"),
    "inputs wide": ("wide/all.npy", "float32 of shape (30, 3, 16, 17)", "(N, 3, 16, 16)"),
    "inputs order": ("last-channels/all.npy", "float32 of shape (40, 16, 16, 3)", "(N, 3, 16, 16)"),
    "inputs letters": ("letters/all.npy", "<U1 of shape (30,)", "(N, 3, 16, 16)"),
    "inputs rows": ("no-rows: 0 different inputs", "at least 20 are needed"),
    "inputs nan": ("not-numbers/all.npy holds NaN or infinity", "first in row", "Leave that input out"),
    "inputs broken": ("broken-words/all.npy holds 0.5 in row 0", "takes whole numbers", "as int64"),
    "inputs strange": ("strange-words/all.npy holds ", "the network takes 0 to 49", "list of words"),
    "inputs long": ("long-texts/all.npy holds int64 of shape (40, 13)", "(N, 12)", "as int64"),
    "inputs pickled": ("pickled/all.npy", "plain array", "Save it with numpy.save"),
    "mean alone": ("--mean and --std go together", "give both"),
    "mean word": ("--mean 'a,b'", "one or three numbers", "0.5,0.5,0.5"),
    "std zero": ("--mean and --std", "deviations above 0"),
    "mean recipe": ("--mean and --std go with an ONNX file", "a recipe says them itself"),
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
    assert list(world.glob("out-init-*.py")) == []
