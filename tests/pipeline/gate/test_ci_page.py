"""docs/ci.md, held against what it speaks of: its YAML is parsed, its commands are read by the real parsers."""

import importlib
import importlib.util
import re
import shlex
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.arguments import flags_from
from pipeline.commands.baseline_command import baseline_parser
from pipeline.main_flags import parser as main_parser

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "ci.md").read_text(encoding="utf-8")
# What the gate takes, by the issue that asked for it.
GATE_FLAGS = {
    "--baseline", "--candidate", "--max-regression", "--max-seconds", "--max-accuracy-drop", "--max-p99-regression",
    "--max-load-regression", "--max-memory-regression", "--max-size-regression", "--instructions", "--device",
    "--junit", "--markdown", "--json", "--undecided",
}  # fmt: skip


def blocks(kind: str) -> list[str]:
    """Every block of code of this kind; one inside of a list of steps is moved to the left."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S)


def commands_in(text: str) -> list[list[str]]:
    """Every `compress …` of a shell text, without what the shell does before and after it."""
    found = []
    for line in text.splitlines():
        said = re.search(r"(?:^|\s)(compress .*)", line.split("#")[0] if "# " in line else line)
        if said is not None:
            found.append(shlex.split(said[1].split("||")[0])[1:])
    return found


def in_yaml(told: Any) -> list[list[str]]:
    """Every command that a parsed YAML value would run."""
    if isinstance(told, dict):
        return [each for value in told.values() for each in in_yaml(value)]
    if isinstance(told, list):
        return [each for value in told for each in in_yaml(value)]
    return commands_in(told) if isinstance(told, str) else []


def parsed() -> list[Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is missing: the YAML of docs/ci.md cannot be parsed")
    return [yaml.safe_load(block) for block in blocks("yaml")]


def every_command() -> list[list[str]]:
    spans = [each for span in re.findall(r"`(compress [^`\n]+)`", PAGE) for each in commands_in(span)]
    return [*in_yaml(parsed()), *(each for block in blocks("sh") for each in commands_in(block)), *spans]


def gate_parser() -> ArgumentParser | None:
    """The gate's own parser, where this checkout has the command."""
    if importlib.util.find_spec("pipeline.commands.gate_command") is None:
        return None
    found: ArgumentParser = importlib.import_module("pipeline.commands.gate_command").gate_parser()
    return found


def test_6_blocks_of_yaml_are_parsed_and_3_of_them_are_whole_files() -> None:
    found = parsed()
    assert len(found) == 6
    # YAML 1.1 reads the key `on` as true; GitHub reads it as a word.
    workflows = [each for each in found if isinstance(each, dict) and "jobs" in each]
    assert [each["name"] for each in workflows] == ["latency gate", "baseline"]
    for workflow in workflows:
        assert workflow[True].keys() <= {"pull_request", "push"}
        for job in workflow["jobs"].values():
            assert job["runs-on"] == "ubuntu-latest"
            for step in job["steps"]:
                assert ("run" in step) != ("uses" in step)
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "actions/checkout@v4"))
    (hooks,) = [each for each in found if isinstance(each, dict) and "repos" in each]
    assert hooks["repos"][0]["hooks"][0]["stages"] == ["pre-push"]


def test_what_1_step_of_the_workflow_writes_another_uploads() -> None:
    (workflow,) = [each for each in parsed() if isinstance(each, dict) and each.get("name") == "latency gate"]
    steps = workflow["jobs"]["gate"]["steps"]
    (gate,) = [step["run"] for step in steps if step.get("run", "").startswith("compress gate")]
    assert "\n" not in gate.strip()  # it is folded into one line
    written = re.findall(r"--(?:junit|markdown) (\S+)", gate)
    uploaded = next(step for step in steps if "upload-artifact" in step.get("uses", ""))["with"]["path"].split()
    assert uploaded == [*written, "gate.svg"]


def test_each_of_more_than_10_commands_is_read_by_its_parser() -> None:
    commands = every_command()
    assert len(commands) > 10
    assert {each[0] for each in commands if not each[0].startswith("-")} == {"gate", "baseline"}
    for command in commands:
        first, rest = command[0], command[1:]
        if first == "baseline":
            flags = flags_from(baseline_parser(), [each.replace("BUNDLE", "x") for each in rest])
            assert flags.action in (None, "update")
        elif first == "gate":
            parser = gate_parser()
            used = {each.split("=")[0] for each in rest if each.startswith("--")}
            assert used - {"--help"} <= GATE_FLAGS
            if parser is not None and "--help" not in used:
                flags_from(parser, rest)
        else:
            assert flags_from(main_parser(), command).target == "x86-cpu"


def test_each_flag_that_the_page_names_is_1_of_the_gates_15() -> None:
    named = set(re.findall(r"--max-[a-z0-9-]+|--undecided|--instructions|--junit|--markdown|--device", PAGE))
    assert named <= GATE_FLAGS
    assert len(GATE_FLAGS) == 15
    parser = gate_parser()
    if parser is not None:
        known = {option for action in parser._actions for option in action.option_strings}
        assert sorted(named - known) == []


def test_the_4_exit_codes_stand_in_the_table_as_the_outcome_has_them() -> None:
    rows = dict(re.findall(r"^\| (\d) \| (\w+)", PAGE, re.M))
    assert rows == {"0": "fine", "1": "regressed", "2": "wrong", "3": "undecided"}
