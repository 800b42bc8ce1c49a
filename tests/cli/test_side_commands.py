"""The commands beside the main one, from `targets` to `devices`; and what needs no command at all."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMANDS = ("targets", "recipes", "init", "verify", "run", "build", "gate", "baseline", "sign", "doctor", "devices")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_each_of_11_helps_shows_an_example_and_exits_with_0(command: str, quick: Any, tmp_path: Path) -> None:
    ended = quick(*command.split(), "--help", cwd=tmp_path)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert "example" in ended.stdout
    assert f"compress {command}".strip() in ended.stdout.split("example")[-1]


def test_the_usage_of_run_has_the_bundle_before_1_or_more_files(quick: Any, tmp_path: Path) -> None:
    usage, *_ = quick("run", "--help", cwd=tmp_path).stdout.splitlines()
    assert usage.startswith("usage: compress run BUNDLE --input FILE [FILE ...] ")
    refused = quick("run", "BUNDLE", "--input", "a.png", "--topp", "1", cwd=tmp_path)
    assert "Did you mean --top?" in refused.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_0_of_the_helps_import_torch(command: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pipeline.cli import main\n"
        f"try: main({[*command.split(), '--help']!r})\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(repr(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stderr == "[]"


def test_0_arguments_print_a_short_usage_and_exit_with_2(compress: Any, tmp_path: Path) -> None:
    ended = compress(cwd=tmp_path)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: compress --target NAME")
    assert "compress --target x86-cpu" in ended.stderr
    assert len(ended.stderr.splitlines()) <= 8


def test_the_version_is_1_line(compress: Any, tmp_path: Path) -> None:
    ended = compress("--version", cwd=tmp_path)
    assert ended.exit_code == 0
    assert ended.stdout.startswith("edge-compress ")
    assert len(ended.stdout.splitlines()) == 1


def test_2_targets_are_listed_with_engine_scheme_and_budgets(quick: Any, tmp_path: Path) -> None:
    ended = quick("targets", "--json", cwd=tmp_path)
    assert ended.exit_code == 0, ended.stderr
    by_name = {target["name"]: target for target in ended.told["targets"]}
    assert {"null", "x86-cpu"} <= set(by_name)
    for target in by_name.values():
        assert (target["engine"]["runtime"] is None) == (target["engine"]["missing"] is not None)
        assert target["scheme"]["weight_bits"] in (7, 8)
        assert target["scheme"]["why"]
        assert all(limit["origin"] == f"target {target['name']}" for limit in target["limits"])
    text = quick("targets", "x86-cpu", cwd=tmp_path).stdout
    assert "VPMADDUBSW" in text  # from its sources
    assert "--max-latency-ms 33.3 (target x86-cpu)" in text
    assert quick("targets", "x86-gpu", cwd=tmp_path).exit_code == 2


def test_3_recipes_are_listed_and_1_is_shown_with_its_settings(quick: Any, tmp_path: Path) -> None:
    listed = quick("recipes", cwd=tmp_path)
    assert listed.exit_code == 0, listed.stderr
    assert [name for name in ("cifar10-resnet56", "digits", "fashion-mnist") if f"{name}: " not in listed.stdout] == []
    shown = quick("recipes", "digits", cwd=tmp_path)
    assert shown.exit_code == 0, shown.stderr
    assert "SoftTargets(temperature=4.0" in shown.stdout
    assert "keep_macs=0.5" in shown.stdout
    assert "Digits(size=32" in shown.stdout


def test_init_writes_1_recipe_and_never_over_another(finished: Any, quick: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text("mine\n")
    flags = ("init", "--teacher", "networks:large", "--weights", "whole.pt", "--data", "photos", "--out", str(recipe))
    refused = quick(*flags, cwd=finished.world)
    assert (refused.exit_code, refused.stdout, recipe.read_text()) == (2, "", "mine\n")
    written = quick(*flags, "--size", "24x16", "--force", "--json", cwd=finished.world)
    assert written.exit_code == 0, written.stderr
    assert written.told["classes"] == {"blue": 60, "green": 60, "red": 60, "white": 60}
    assert (written.told["size"], written.told["channels"]) == ([24, 16], 3)
    # 3·3·3·16 + 3·3·16·32 + 3·3·32·64 weights, 2·(16 + 32 + 64) of batch norm, 64·4 + 4 of the last layer
    assert written.told["teacher"]["parameters"] == 432 + 4608 + 18432 + 224 + 260
    text = recipe.read_text()
    assert "teacher=Teacher(teacher_network, weights='whole.pt')" in text.replace('"', "'")
    assert "Distill" not in text  # there is no student to teach
    shown = quick("recipes", str(recipe), "--json", cwd=finished.world)
    assert [stage["name"] for stage in shown.told["recipes"][0]["stages"]] == ["prune", "quantize", "export", "build"]


def test_the_1_command_that_init_names_runs_where_a_folder_has_a_space_in_its_name(
    finished: Any, quick: Any, tmp_path: Path
) -> None:
    (tmp_path / "my photos").symlink_to(finished.world / "photos")
    shutil.copy(finished.world / "networks.py", tmp_path)
    written = quick("init", "--teacher", "networks:large", "--data", "my photos", "--json", cwd=tmp_path)
    assert written.exit_code == 0, written.stderr
    program, *arguments = shlex.split(written.told["command"])
    assert (program, arguments[-1]) == ("compress", "x86-cpu")
    assert quick(*arguments, "--dry-run", cwd=tmp_path).exit_code == 0
    assert "metric=" in (tmp_path / "my_recipe.py").read_text()


def test_verify_finds_the_bundle_whole_and_its_16_answers_the_same(finished: Any, quick: Any) -> None:
    ended = quick("verify", "finished", "--json", cwd=finished.world)
    assert ended.exit_code == 0, ended.stderr
    assert (ended.told["identical"], ended.told["is_the_engine"], ended.told["answers"]["inputs"]) == (True, True, 16)


def test_verify_names_each_of_2_damaged_files_and_exits_with_2(finished: Any, quick: Any, tmp_path: Path) -> None:
    shutil.copytree(finished.out / "bundle", tmp_path / "bundle")
    (engine,) = (tmp_path / "bundle").glob("engine.*")
    damaged = bytearray(engine.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    engine.write_bytes(damaged)
    (tmp_path / "bundle" / "labels.json").unlink()
    ended = quick("verify", "bundle", cwd=tmp_path)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "missing: labels.json" in ended.stderr
    assert f"changed: {engine.name}" in ended.stderr
    assert "Traceback" not in ended.stderr
    refused = quick("run", "bundle", "--input", str(finished.world / "photos" / "red" / "00.png"), cwd=tmp_path)
    assert (refused.exit_code, refused.stdout) == (2, "")


def test_run_answers_2_pictures_with_their_classes(finished: Any, quick: Any) -> None:
    pictures = ("photos/red/00.png", "photos/white/07.png")
    ended = quick("run", "finished", "--input", *pictures, "--top", "1", "--json", cwd=finished.world)
    assert ended.exit_code == 0, ended.stderr
    assert [(each["image"], each["top"][0]["class"]) for each in ended.told] == [
        (pictures[0], "red"),
        (pictures[1], "white"),
    ]


def test_run_answers_what_it_can_and_exits_with_2_for_1_file_that_is_no_picture(finished: Any, quick: Any) -> None:
    ended = quick("run", "finished", "--input", "networks.py", "photos/red/00.png", cwd=finished.world)
    assert ended.exit_code == 2
    assert "networks.py" in ended.stderr
    assert "red" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_the_doctor_finds_what_11_packages_are_needed_for_and_which_targets_work(quick: Any, tmp_path: Path) -> None:
    ended = quick("doctor", "--json", cwd=tmp_path)
    told = ended.told
    assert ended.exit_code == (0 if told["works"] else 2)
    assert "null" not in told["works"]  # it answers zeros: nothing is built for it
    assert len(told["packages"]) == 11
    for package in told["packages"]:
        assert package["needed_for"]
        assert package["version"] or "pip install" in package["problem"]
    for row in told["accelerators"]:
        assert (row["found"] is None) == (row["install"] is not None)
    assert told["machine"]["cores"] >= 1
    assert told["machine"]["free_disk_bytes"] > 0


@pytest.mark.parametrize(
    ("found", "wanted", "holds"),
    [
        ("2.13.0+cpu", ">=2.10,<2.14", True),
        ("2.14.0", ">=2.10,<2.14", False),
        ("2.9", ">=2.10,<2.14", False),
        ("2.1.3", "==2.1.3", True),
        ("2.1.3.1", "==2.1.3", False),
        ("1.6", "<1.7,>=1.6", True),
        ("1.20", ">=1.20.0", True),
        ("7", "", True),
    ],
)
def test_2_14_is_outside_of_a_range_that_ends_below_it(found: str, wanted: str, holds: bool) -> None:
    from pipeline.commands.examine import in_range

    assert in_range(found, wanted) is holds
