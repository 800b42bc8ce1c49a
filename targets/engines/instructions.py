"""How many instructions one inference takes on a processor: a witness without noise, beside the times.

Two can testify, and one of them is chosen for both engines of a pair:

    perf events   the processor's own counter, read through the kernel: quick; Python's part of a call is in it, and
                  now and then some instructions too many
    callgrind     valgrind's emulated processor: slow, and repeats to the instruction

What callgrind counts is the least of five calls, each counted by itself, in the files of the runtime and in code that
it made while it ran. Left out is what Python, numpy and the C library do around it. That was 0.2 to 4.8 % of the three
networks below and differs from call to call with where memory happens to lie; copying memory, the part of it that a
network could make grow, takes an instruction for 32 bytes. The least, because the runtime looks at the clock and writes
a note now and then, 33 or 169 instructions. And the runtime is told to start no thread for its telemetry, hashes are
not salted, addresses not drawn, byte code is not written, and engines are read from a copy under one name.

One thread counts: threads that wait for each other spin for as long as they wait, and calls of one engine on two
threads differed by 13 %.

Counted so (ONNX Runtime 1.31, valgrind 3.19, AVX2, the figures in processes one after the other, under load):

    digits       0.2 ms     1 399 618  twice
    ResNet-20    1 ms       7 919 441  twice; the same from one call and from three
    MobileNetV2  7.5 ms    77 873 310  twice; 33 more where a single call was counted

A pair is counted by one version of this program: another one lays out its memory otherwise, and was up to 0.001 % off.
OpenVINO 2026.4's kernels repeat as well; its Python binding looks addresses up, and was off by up to 0.006 %.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from targets.engines.callgrind_file import instructions_besides
from targets.engines.hardware_counter import why_not
from targets.errors import EngineFailed, EngineMissing
from targets.reach.local import cpu_features, is_arm64, is_x86

PACKAGES = Path(__file__).parents[2]  # the folder that holds `targets`
CALLS = {"callgrind": 5, "perf events": 30}  # counted
WARMING = {"callgrind": 4, "perf events": 60}  # calls before
LIMIT_S = 300.0
COUNTED = "counted"  # how the names of callgrind's files begin
# How the features begin that its processor does not have.
BEYOND_CALLGRIND = ("avx512", "avx_vnni", "amx", "sve", "i8mm", "asimddp")
SETTINGS = (
    "PYTHONHASHSEED=0",
    "ORT_DISABLE_TELEMETRY=1",
    "OMP_NUM_THREADS=1",
    "OPENBLAS_NUM_THREADS=1",
)


@dataclass(frozen=True)
class Witness:
    """Who counts; program: valgrind, where that does."""

    kind: Literal["perf events", "callgrind"]
    program: str | None = None


@dataclass(frozen=True)
class Counted:
    """Instructions of one engine.

    per_inference: of one call, the least of those counted · median: of the calls; the least of as many calls in another
        process lies below it in all but one of 2 ** calls cases
    calls: how many were counted · exact: the least was counted at least twice
    remark: what this witness cannot see, or empty
    """

    per_inference: int
    median: int
    witness: str
    calls: int
    exact: bool
    remark: str = ""


def witness_here(*, search: str | None = None, refusal: Callable[[], str | None] = why_not) -> Witness:
    """Who can count instructions on this machine: its own counter before valgrind.

    search: where programs are looked for, as PATH has it; None: in PATH · refusal: why there is no counter, or None

    Raises:
        EngineMissing: nobody can; says what to install.
    """
    reason = refusal()
    if reason is None:
        return Witness("perf events")
    program = shutil.which("valgrind", path=search)
    if program is not None and (is_x86() or is_arm64()):
        return Witness("callgrind", program)
    why_no_valgrind = "valgrind is not on the PATH" if program is None else "valgrind is not asked on this processor"
    raise EngineMissing(
        f"Instructions cannot be counted here: {reason}, and {why_no_valgrind}. "
        "Install valgrind (apt-get install valgrind), or leave the instructions out."
    )


def instructions_of(
    engine: Path,
    inputs: NDArray[Any],
    *,
    threads: int,
    runtime: str,
    calls: int | None = None,
    witness: Witness | None = None,
    limit_s: float = LIMIT_S,
) -> Counted:
    """Instructions of one inference of this engine file, counted in a fresh process around the calls alone.

    inputs: one batch, (N, …) · threads: what the engine is used with; it is counted with one · runtime: the name of an
    engine that `memory_probe.py` can open · calls: to count; None: as many as this witness needs · witness: who counts;
    None: `witness_here()`. Give both engines of a pair the same

    Raises:
        EngineMissing: nobody can count here.
        EngineFailed: the engine cannot be opened or asked there, or takes longer than `limit_s`.
    """
    witness = witness_here() if witness is None else witness
    calls = CALLS[witness.kind] if calls is None else calls
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copied = place / f"engine{engine.suffix}"
        try:
            shutil.copyfile(engine, copied)
        except OSError as error:
            raise EngineFailed(f"The engine {engine} cannot be read: {error.strerror}.") from error
        np.save(place / "inputs.npy", inputs)
        order = {
            "engine": str(copied), "runtime": runtime, "inputs": str(place / "inputs.npy"), "threads": 1,
            "witness": witness.kind, "warming": WARMING[witness.kind], "calls": calls,
        }  # fmt: skip
        (place / "order.json").write_text(json.dumps(order), encoding="utf-8")
        said = _answer(_command(witness, place), engine=engine, limit_s=limit_s)
        counts = list(said["counts"])
        if witness.program is not None:
            files = [place / f"{COUNTED}.{number}" for number in range(1, calls + 2)]
            counts = [instructions_besides(file, others=said["others"]) for file in files]
    return counted_from(
        counts, witness=witness.kind, remark=remark_on(witness.kind, threads=threads, features=cpu_features())
    )


def counted_from(counts: Sequence[int], *, witness: str, remark: str = "") -> Counted:
    """From the count without a call and those with one."""
    empty, *each = counts
    least = min(each)
    middle = statistics.median_high(each)
    return Counted(least - empty, middle - empty, witness, len(each), each.count(least) > 1, remark)


def _command(witness: Witness, place: Path) -> list[str]:
    """The process that counts."""
    python = [sys.executable, "-B", "-m", "targets.engines.instruction_process", str(place / "order.json")]
    command = ["env", *SETTINGS]
    fixed = shutil.which("setarch")
    if fixed is not None:
        command += [fixed, "--addr-no-randomize"]
    if witness.program is not None:
        command += [witness.program, "-q", "--tool=callgrind", "--instr-atstart=no", "--vgdb=no"]
        command += [f"--callgrind-out-file={place / COUNTED}"]
    return command + python


def _answer(command: list[str], *, engine: Path, limit_s: float) -> dict[str, Any]:
    """What the process says. `subprocess.run` ends it when the time is over, and on Ctrl-C."""
    try:
        ended = subprocess.run(
            command, cwd=PACKAGES, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired as error:
        raise EngineFailed(
            f"Counting the instructions of {engine} took longer than {limit_s:g} s and was ended. "
            "Counting is some hundred times slower than running: leave it out for a network of this size."
        ) from error
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise EngineFailed(f"The instructions of {engine} cannot be counted: {lines[-1]}")
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return said


def remark_on(kind: str, *, threads: int, features: Sequence[str]) -> str:
    """What this witness does not see, for the reader; features: of this processor."""
    told = []
    unseen = [each for each in features if each.startswith(BEYOND_CALLGRIND)]
    if kind == "callgrind" and unseen:
        told.append(
            f"callgrind emulates a processor without {', '.join(unseen)}: kernels were counted that may be others than "
            "those that run"
        )
    if threads > 1:
        told.append(f"counted with one thread, though {threads} are used: the spinning of those that wait is no work")
    return "; ".join(told)
