"""What a gate leaves in files: JUnit XML, and Markdown with a picture beside it."""

from pathlib import Path

from pipeline.errors import OutRefused
from pipeline.gate.gate_junit import gate_junit
from pipeline.gate.gate_markdown import gate_markdown
from pipeline.gate.gate_picture import distribution_svg
from pipeline.gate.outcome import Gate
from pipeline.store import write_bytes


def write_reports(gate: Gate, *, junit: Path | None, markdown: Path | None, undecided: str) -> None:
    """Write those that were asked for.

    Raises:
        OutRefused: a file cannot be written; the answer itself is on standard output by then.
    """
    if junit is not None:
        _write(junit, gate_junit(gate, undecided=undecided))
    if markdown is not None:
        picture = distribution_svg(gate.baseline_ms, gate.candidate_ms)
        beside = markdown.with_suffix(".svg")
        if picture:
            _write(beside, picture)
        _write(markdown, gate_markdown(gate, beside.name if picture else None))


def refuse_unwritable(*files: Path | None) -> None:
    """Pass files whose folders are there, before a minute is spent on what they are to hold.

    Raises:
        OutRefused: a folder is missing, or a folder stands in a file's place.
    """
    for file in filter(None, files):
        folder = file.absolute().parent
        if file.is_dir() or not folder.is_dir():
            why = f"{file} is a folder" if file.is_dir() else f"there is no folder {folder}"
            raise OutRefused(f"{file} cannot be written: {why}. Name a file in a folder that is there.")


def _write(file: Path, text: str) -> None:
    try:
        write_bytes(file, text.encode())
    except OSError as error:
        raise OutRefused(f"{file} cannot be written ({error.strerror}). The gate's answer stands above.") from error
