"""Write docs/errors.md: each bad input, the command that meets it, and what it prints.

    python tools/error_table.py

The inputs are those of bad_inputs.py; tests/cli hold each message against what it must say.
"""

import sys
import tempfile
from pathlib import Path

from bad_inputs import BAD_INPUTS, arguments_of, write_world
from warm_commands import Command, Ended, warm_interpreter

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"

HEAD = """\
# What the command says to bad input

Written by `python tools/error_table.py`, which runs every command below. Each ends with exit code 2, leaves standard
output empty and says on standard error what is wrong, where, and what to do. `./` is the folder it runs in.

Exit codes: 0 every budget is met · 1 a budget is missed · 2 wrong usage or bad input · 3 undecided · 130 interrupted,
and the same command goes on where it stopped.

| bad input | command | what it prints |
|---|---|---|
"""


def main() -> int:
    """Run all bad inputs in a folder of their own and write the page."""
    with tempfile.TemporaryDirectory() as folder, warm_interpreter() as warm:
        world = Path(folder).resolve()
        write_world(world)
        commands = [Command(arguments_of(name), str(world), case.file_limit_bytes) for name, case in BAD_INPUTS.items()]
        ended = warm.run(commands)
        rows = [row(name, each, world=world) for name, each in zip(BAD_INPUTS, ended, strict=True)]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")
    wrong = [name for name, each in zip(BAD_INPUTS, ended, strict=True) if each.exit_code != 2 or each.stdout]
    if wrong:
        sys.stderr.write(f"not refused as they must be: {', '.join(wrong)}\n")
    return 1 if wrong else 0


def row(name: str, ended: Ended, *, world: Path) -> str:
    """One line of the table; the lines of the progress are left out."""
    case = BAD_INPUTS[name]
    limit = f"`ulimit -f {case.file_limit_bytes // 1024}`, then " if case.file_limit_bytes else ""
    said = ended.stderr.strip().splitlines()[-1].replace(f"{world}/", "./").replace(str(world), ".")
    return f"| {case.title} | {limit}`compress {cell(case.arguments)}` | {cell(said.removeprefix('compress: '))} |\n"


def cell(text: str) -> str:
    """Text that does not end a cell, nor begins a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
