"""Our INT8 beside that of other quantizers: same float ONNX file, same calibration inputs, same threads, in turns.

python tools/compare_int8.py --data DIR                            every network and every quantizer that is installed
python tools/compare_int8.py --data DIR --networks resnet20 --peers onnxruntime_static --json out.json

The quantizers of others are optional: pip install -e '.[peers]', and for Neural Compressor as its file here says. One
that clashes with the rest may live in an environment of its own: --interpreter PEER=ENVIRONMENT/bin/python. Nothing
that was done is done again for the same --work folder, which also holds what each quantizer printed.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from int8_peers.networks import NETWORKS, write_inputs
from int8_peers.table import comparison_lines

from pipeline.data.fidelity import fidelity_of
from pipeline.store import read_json, write_json

TOOLS = ("ours", "onnxruntime_static", "nncf_openvino", "neural_compressor", "modelopt_onnx")
HERE = Path(__file__).resolve().parent
PATIENCE_S = 3600  # for one quantizer on one network


def main() -> None:
    """Compare what was asked for and print the tables."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [network.name for network in NETWORKS]
    flags.add_argument("--data", type=Path, required=True, help="where data sets and weights lie")
    flags.add_argument("--networks", default=",".join(names), help="default: all")
    flags.add_argument("--peers", default=",".join(TOOLS[1:]), help="default: all; ours is always there")
    flags.add_argument("--calibration", type=int, default=200, help="inputs to calibrate with; default: 200 or a row's")
    flags.add_argument("--threads", type=int, default=1, help="default: 1")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--work", type=Path, default=Path("compared"), help="default: ./compared")
    flags.add_argument("--interpreter", action="append", default=[], metavar="PEER=PYTHON")
    flags.add_argument("--json", type=Path, help="where to write everything, every single time included")
    asked = flags.parse_args()
    tools = ["ours", *known(asked.peers, TOOLS[1:], what="peer")]
    wanted = known(asked.networks, names, what="network")
    interpreters = dict(each.split("=", 1) for each in asked.interpreter)
    told = []
    for network in NETWORKS:
        if network.name not in wanted:
            continue
        folder = asked.work.resolve() / network.name
        write_inputs(network, asked.data, into=folder, calibration=asked.calibration, seed=asked.seed)
        for tool in tools:
            say(f"{network.name}: {tool}")
            python = interpreters.get(tool, sys.executable)
            in_process(python, "quantize", tool, str(folder), str(asked.threads), log=folder / tool / "log.txt")
        say(f"{network.name}: measuring")
        in_process(sys.executable, "measure", str(folder), str(asked.threads), log=folder / "log.txt")
        told.append(result_in(folder, tools))
        if asked.json:
            write_json(asked.json, told)
    print("\n".join(comparison_lines(told)))


def known(listed: str, names: Any, *, what: str) -> list[str]:
    """The names in a list with commas; the end of the program for one that does not exist."""
    found = [name for name in listed.split(",") if name]
    for name in found:
        if name not in names:
            raise SystemExit(f"there is no {what} {name!r}; there are: {', '.join(names)}")
    return found


def in_process(python: str, *arguments: str, log: Path) -> None:
    """Run the part in a process of its own, with what it prints in `log`; how it went is in the files it leaves."""
    log.parent.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join((str(HERE), str(HERE.parent)))
    with log.open("w") as file:
        command = [python, "-m", "int8_peers.carry_out", *arguments]
        environment = os.environ | {"PYTHONPATH": paths}
        try:
            subprocess.run(command, cwd=log.parent, env=environment, stdout=file, stderr=subprocess.STDOUT,
                           timeout=PATIENCE_S, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            file.write(f"stopped after {PATIENCE_S} s\n")


def result_in(folder: Path, tools: list[str]) -> dict[str, Any]:
    """The rows of a network; and of each quantizer how long it took, what it tried, or why there is no row of it."""
    outcomes = {tool: outcome_in(folder / tool) for tool in tools}
    measured = folder / "measured.json"
    if not measured.is_file():
        raise SystemExit(f"measuring {folder.name} failed; {folder / 'log.txt'} says why.")
    rows = [row for row in read_json(measured)["rows"] if row["tool"] in ("float", *tools)]
    return {
        "name": folder.name, "rows": rows, "calibration": len(np.load(folder / "given" / "calibration.npy", "r")),
        "metric": "top1" if fidelity_of(folder / "given" / "float.onnx") is None else "fidelity",
        "seconds": {
            tool: sum(tried["seconds"] for tried in each["tried"]) for tool, each in outcomes.items() if "forms" in each
        },
        "tried": {tool: each.get("tried", []) for tool, each in outcomes.items()},
        "versions": {tool: each.get("versions", {}) for tool, each in outcomes.items()},
        "without": {
            tool: f"missing: {each['missing']}" if "missing" in each else f"failed: {each['failed']}"
            for tool, each in outcomes.items() if "forms" not in each
        },
    }  # fmt: skip


def outcome_in(folder: Path) -> dict[str, Any]:
    """What a quantizer left, or the last thing it said where it left nothing."""
    path = folder / "outcome.json"
    if path.is_file():
        return dict(read_json(path))
    log = folder / "log.txt"
    said = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return {"failed": f"its process ended early; last it said: {said[-1][:200] if said else 'nothing'}"}


def say(text: str) -> None:
    """Progress."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
