"""`compress doctor`: what this machine can build and measure, and what is missing for the rest."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.arguments import command_parser, flags_from, own_version

EXAMPLES = """\
examples:
  compress doctor
  compress doctor --json          for a bug report

exit codes: 0 for some target engines can be built and measured here, 2 for none
"""


def doctor(arguments: Sequence[str]) -> int:
    """Run `compress doctor`; returns the exit code."""
    parser = command_parser("doctor", says="Say what this machine can build and measure.", examples=EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = flags_from(parser, arguments)
    told = diagnosis()
    sys.stdout.write(json.dumps(told, indent=1) + "\n" if flags.json else diagnosis_text(told))
    return int(told["exit_code"])


def diagnosis() -> dict[str, Any]:
    """Everything that was found, as JSON data."""
    from dataclasses import asdict

    from pipeline.commands import examine

    packages = [asdict(package) for package in examine.packages()]
    targets = examine.targets()
    sound = not any(package["problem"] for package in packages)
    works = [each["name"] for each in targets if each["works"] and each["answers"] and sound]
    return {
        "schema": 1, "version": own_version(), "machine": examine.machine(), "packages": packages, "targets": targets,
        "accelerators": examine.accelerators(), "works": works, "exit_code": 0 if works else 2,
    }  # fmt: skip


def diagnosis_text(told: dict[str, Any]) -> str:
    """The diagnosis as a page of text."""
    here = told["machine"]
    memory = "unknown" if here["memory_bytes"] is None else f"{here['memory_bytes'] / 1e9:.1f} GB"
    rows = [
        ("edge-compress", told["version"]),
        ("python", here["python"]),
        ("system", f"{here['operating_system']}, {here['architecture']}"),
        ("processor", f"{here['cpu']}, {here['cores']} core(s) usable"),
        ("features", " ".join(here["cpu_features"]) or "unknown"),
        ("memory", memory),
        ("free disk", f"{here['free_disk_bytes'] / 1e9:.1f} GB in the present folder"),
    ]
    text = columns("machine", rows)
    text += columns("packages", [(each["name"], package_text(each)) for each in told["packages"]])
    text += columns("targets", [(each["name"], target_text(each)) for each in told["targets"]])
    text += columns("besides", [(each["name"], found_text(each)) for each in told["accelerators"]])
    if told["works"]:
        return text + f"can build and measure here: {', '.join(told['works'])}\n"
    return text + "cannot build and measure for any target here; what is marked ✗ says why.\n"


def columns(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A titled block of names and what is said of them."""
    width = max(len(name) for name, _ in rows)
    return f"{title}\n" + "".join(f"  {name.ljust(width)}  {text}\n" for name, text in rows) + "\n"


def package_text(package: dict[str, Any]) -> str:
    """`✓ 2.13.0 (>=2.10,<2.14)`, or what is wrong and what it is needed for."""
    if package["problem"]:
        return f"✗ {package['version'] or ''} {package['problem']} (needed for {package['needed_for']})".replace(
            "  ", " "
        )
    return f"✓ {package['version']} ({package['wanted'] or 'any version'})"


def target_text(target: dict[str, Any]) -> str:
    """The runtime and the integers, or why the target is out of reach."""
    if not target["works"]:
        return f"✗ {target['why_not']}"
    if not target["answers"]:
        return "✓ for tests; it answers zeros"
    return f"✓ {target['runtime']}; {target['scheme']['weight_bits']}-bit weights: {target['scheme']['why']}"


def found_text(row: dict[str, Any]) -> str:
    """What was found, or what it would be good for."""
    return f"✓ {row['found']}" if row["found"] else f"– none. For {row['needed_for']}: {row['install']}"
