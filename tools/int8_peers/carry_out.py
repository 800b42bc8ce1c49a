"""One quantizer on one network, or the measuring of all of them, in a process of its own.

    python -m int8_peers.carry_out quantize TOOL NETWORK_FOLDER THREADS    → NETWORK_FOLDER/TOOL/outcome.json
    python -m int8_peers.carry_out measure NETWORK_FOLDER THREADS          → NETWORK_FOLDER/measured.json

So a quantizer that changes its libraries, prints, or falls over leaves the others alone. What was done before for the
same inputs, versions and code is not done again.
"""

import gc
import importlib
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from int8_peers.measuring import forms_in, measured
from int8_peers.task import one_line, task_in
from pipeline.store import code_version, digest_of, file_digest, read_json, write_json


def main(arguments: list[str]) -> int:
    """Do the one thing asked for."""
    threads = int(arguments[-1])
    if arguments[0] == "quantize":
        quantize(arguments[1], Path(arguments[2]), threads=threads)
    else:
        measure(Path(arguments[1]), threads=threads)
    return 0


def quantize(tool: str, network: Path, *, threads: int) -> None:
    """Run the quantizer and write what came of it: forms and what was tried, or "missing", or "failed"."""
    path = network / tool / "outcome.json"
    peer = importlib.import_module(f"int8_peers.{tool}")
    versions = versions_of(peer)
    absent = [name for name, found in versions.items() if not found]
    key = key_of(tool, network, versions, threads=threads)
    if path.is_file() and (before := read_json(path))["key"] == key and "forms" in before:
        return
    leftovers = [each for each in (network / tool).glob("*") if each.is_file() and each.name != "log.txt"]
    for each in leftovers:  # some quantizers refuse to write over them; ours resumes from the folder below
        each.unlink()
    outcome: dict[str, Any] = {"key": key, "versions": versions}
    try:
        if absent:
            raise ModuleNotFoundError(f"No distribution {', '.join(absent)}")
        outcome |= asdict(peer.quantized(task_in(network, tool=tool, threads=threads)))
    except ImportError as error:
        outcome["missing"] = one_line(error)
    except Exception as error:
        outcome["failed"] = one_line(error)
        write_json(path, outcome)
        raise  # its traceback belongs into the log
    write_json(path, outcome)


def versions_of(peer: ModuleType) -> dict[str, str]:
    """Distribution → version, empty where it is not installed."""
    return {name: version_or_empty(name) for name in peer.PACKAGES}


def version_or_empty(name: str) -> str:
    """The version of a distribution; empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def key_of(tool: str, network: Path, versions: dict[str, str], *, threads: int) -> str:
    """Of all that the outcome depends on."""
    here = Path(__file__).parent
    code = [file_digest(here / f"{name}.py") for name in (tool, "task", "transformer")]
    # Ours depends on all of our code, and on whether its second runtime is there.
    own = [code_version(), version_or_empty("openvino")] if tool == "ours" else []
    return digest_of(code, own, versions, threads, read_json(network / "given" / "key.json"))


def measure(network: Path, *, threads: int) -> None:
    """Measure all forms there are, unless just these were measured before."""
    path = network / "measured.json"
    forms = forms_in(network)
    code = [file_digest(Path(__file__).parent / f"{name}.py") for name in ("measuring", "opening", "detections")]
    given = read_json(network / "given" / "key.json")
    key = digest_of(
        code, threads, given, [[form.tool, form.quantized.runtime, file_digest(form.path)] for form in forms]
    )
    if path.is_file() and read_json(path)["key"] == key:
        return
    path.unlink(missing_ok=True)
    gc.freeze()  # what is loaded stays: the collection before each sample then costs microseconds
    write_json(path, {"key": key, "rows": measured(network, forms, threads=threads)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
