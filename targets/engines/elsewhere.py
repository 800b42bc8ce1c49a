"""A runtime on a device that is reached: engines are built, asked and timed there, by jobs (targets/on_device/).

An engine file comes back to be kept and handed over, stamped with what built it; the device keeps a copy under the
file's digest, so that nothing is sent twice. Beside the engine lies what the device said of it: `NAME.json`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.engines.raw_arrays import read_raw, written_raw
from targets.engines.session import joined as in_one
from targets.engines.stamp import Stamp, append_stamp, read_stamp
from targets.engines.times_there import by_process, in_step, times_of_engine
from targets.errors import EngineFailed, EngineMissing, EngineRefused
from targets.reach.reached import Reached, refuse_emulated, version_in
from targets.runner import LayerTime, OperatorRow, Operators, Place, Runner
from targets.whole_file import write_whole

ONNX_RUNTIME, TENSORRT = "onnxruntime", "tensorrt"
SUFFIXES = {ONNX_RUNTIME: ".engine.onnx", TENSORRT: ".plan"}
HOW_TO_INSTALL = {
    ONNX_RUNTIME: "Install it there (pip install onnxruntime), and name that Python in the devices file.",
    TENSORRT: "It comes with JetPack, or from NVIDIA's packages; trtexec alone is enough.",
}
JOB_LIMIT_S, BUILD_LIMIT_S = 1800.0, 7200.0  # a builder on a small board tries kernels for many minutes
TIMING_CACHE = "kernels"  # kept on the device, one per board, TensorRT and power mode
SAMPLES = 299  # of each engine and process: bounds a p99


@dataclass(frozen=True)
class Timed:
    """Times of several engines, taken on the device in turns.

    samples_ms: of whole answers, with transfers · compute_ms: of the kernels alone, where the runtime tells
    state: of the device before and after · unstable: why these times are not to be believed
    each_ms, each_compute_ms: all times of each process, of each engine
    """

    samples_ms: tuple[tuple[float, ...], ...]
    compute_ms: tuple[tuple[float, ...] | None, ...]
    processes: int
    state: Mapping[str, Any] = field(default_factory=dict)
    unstable: tuple[str, ...] = ()
    each_ms: tuple[tuple[tuple[float, ...], ...], ...] = ()
    each_compute_ms: tuple[tuple[tuple[float, ...], ...], ...] = ()


@dataclass(frozen=True)
class Afar:
    """Answers through an engine on a device; however many inputs are given, they go over in one job."""

    engine: "Elsewhere"
    path: Path
    threads: int

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[Any]:
        """(N, …) → (N, …); several outputs in one array."""
        return in_one(self.engine.answers(self.path, inputs, threads=self.threads))

    def close(self) -> None:
        """Nothing is held open between two jobs."""


@dataclass(frozen=True)
class Elsewhere:
    """ONNX Runtime or TensorRT on a device.

    name: the runtime's · settings: what its jobs are told beside the threads, such as the provider
    """

    device: Reached
    name: str = ONNX_RUNTIME
    settings: Mapping[str, Any] = field(default_factory=dict)
    joined: tuple[Place, ...] = ()
    optional: tuple[Place, ...] = ()

    @property
    def suffix(self) -> str:
        """How engine files end."""
        return SUFFIXES[self.name]

    @property
    def runtime(self) -> str:
        """Name and version, as the device says."""
        version = version_in(self.device.facts(), self.name)
        if version is None:
            raise EngineMissing(f"The device {self.device.address} has no {self.name}. {HOW_TO_INSTALL[self.name]}")
        return f"{self.name} {version}"

    def build(self, onnx_path: Path, engine_path: Path, *, threads: int) -> None:
        """Built on the device and fetched."""
        if not onnx_path.is_file():
            raise EngineRefused(f"There is no ONNX file {onnx_path}. Export the model first.")
        name = f"engine{self.suffix}"
        job = {
            "runtime": self.name, "onnx": "model.onnx", "engine": name,
            "settings": self._settings(threads, onnx_path),
        }  # fmt: skip
        with TemporaryDirectory(dir=engine_path.parent, prefix=".building-") as folder:
            told = self.device.job(
                "build", job, files={"model.onnx": onnx_path}, fetch=(name,), into=Path(folder),
                limit_s=BUILD_LIMIT_S,
            )  # fmt: skip
            built = (Path(folder) / name).read_bytes()

        def write(beside: Path) -> None:
            beside.write_bytes(built)
            if self.name == ONNX_RUNTIME:
                append_stamp(beside, stamp_of({"runtime": self.runtime}, self.device.facts(), threads=threads))

        write_whole(engine_path, write)
        told = {name: value for name, value in told.items() if name != "files"} | {"input": input_of(onnx_path)}
        write_whole(beside_engine(engine_path), lambda file: _write_json(file, told))

    def open(self, engine_path: Path, *, threads: int) -> Runner:
        """The engine on the device; whether it can be opened there shows when it is asked."""
        self._refuse_strange(engine_path)
        return Afar(self, engine_path, threads)

    def answers(self, engine_path: Path, inputs: NDArray[Any], *, threads: int) -> list[NDArray[Any]]:
        """Every output of an engine, (N, …) each."""
        with TemporaryDirectory(prefix="edge-compress-") as folder:
            given, job = self._job(engine_path, inputs, Path(folder), threads=threads)
            told = self.device.job(
                "answer", {**job, "engine": given[0], "count": len(inputs)}, files=given[1], fetch=("*",),
                into=Path(folder), limit_s=JOB_LIMIT_S,
            )  # fmt: skip
            outputs = [read_raw(entry, Path(folder)) for entry in told.get("outputs", ())]
        if not outputs or any(len(each) != len(inputs) for each in outputs):
            raise EngineFailed(f"{self.device.address} gave not one answer to each of {len(inputs)} inputs.")
        return outputs

    def outputs_of(self, onnx_path: Path, inputs: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Every output of an ONNX file, by the kernels of its engine on the device."""
        with TemporaryDirectory(prefix="edge-compress-") as folder:
            engine = Path(folder) / f"outputs{self.suffix}"
            self.build(onnx_path, engine, threads=1)
            return tuple(self.answers(engine, inputs, threads=1))

    def operators(self, engine_path: Path) -> Operators:
        """Its convolutions and matrix products, as ONNX Runtime's file or TensorRT's inspector names them."""
        if self.name == ONNX_RUNTIME:
            from targets.engines.onnx_operators import operators_of  # loads onnx, which the command's help does without

            return operators_of(engine_path)
        rows = tuple(
            OperatorRow(str(row["name"]), str(row["kind"]), bool(row["integer"]), str(row.get("why", "")))
            for row in said_of(engine_path).get("layers", ())
            if row.get("product", True)
        )
        whole = sum(row.integer for row in rows)
        return Operators(whole, len(rows) - whole, rows)

    def layer_times(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> tuple[LayerTime, ...]:
        """The median time of each layer, on the device; raises TimesRefused where that is emulated."""
        refuse_emulated(self.device)
        told = self._asked("layers", engine_path, inputs[:1], threads=threads)
        return tuple(
            LayerTime(str(row["name"]), str(row["kind"]), bool(row["integer"]), float(row["median_ms"]))
            for row in told["layers"]
        )

    def peak_memory(self, engine_path: Path, inputs: NDArray[np.float32], *, threads: int) -> int:
        """Bytes at the peak of a fresh process on the device; raises TimesRefused where that is emulated."""
        refuse_emulated(self.device)
        return int(self._asked("memory", engine_path, inputs[:1], threads=threads)["peak_bytes"])

    def times(
        self, paths: Sequence[Path], inputs: NDArray[Any], *, threads: int, seed: int, samples: int | None = SAMPLES
    ) -> Timed:
        """The times of several engines on one batch, in turns, in fresh processes. samples: None, as the settings say

        Raises:
            TimesRefused: the device is emulated.
        """
        refuse_emulated(self.device)
        with TemporaryDirectory(prefix="edge-compress-") as folder:
            _, job = self._job(paths[0], inputs, Path(folder), threads=threads)
            own = [self._given(path, inputs, Path(folder) / f"inputs-{place}.raw") for place, path in enumerate(paths)]
            counts = {} if samples is None else {"samples": samples, "iterations": samples}
            job["settings"] = {**job["settings"], "seed": seed, **counts}
            names = [f"{place}-engine{self.suffix}" for place in range(len(paths))]
            files = dict(zip(names, paths, strict=True))
            files |= {entry["file"]: Path(folder) / entry["file"] for entry in (*job["inputs"], *own)}
            identities = {name: said_of(path).get("identity") for name, path in zip(names, paths, strict=True)}
            told = self.device.job(
                "measure",
                {
                    **job, "engines": names, "identities": identities,
                    "inputs_of": {name: [entry] for name, entry in zip(names, own, strict=True)},
                },
                files=files, limit_s=JOB_LIMIT_S,
            )  # fmt: skip
        runs = told["runs"]
        samples_ms = in_step(runs, names)
        if not all(samples_ms):
            raise EngineFailed(f"{self.device.address} sent no times of an engine.")
        return Timed(
            samples_ms,
            tuple(times_of_engine(runs, name, "compute_ms") or None for name in names),
            processes=1 + max(int(run["process"]) for run in runs),
            state={name: told.get(name) for name in ("before", "after", "clocks")},
            unstable=tuple(str(each) for each in told.get("unstable", ())),
            each_ms=by_process(runs, names, "latency_ms"),
            each_compute_ms=by_process(runs, names, "compute_ms"),
        )

    def _asked(self, what: str, engine_path: Path, inputs: NDArray[Any], *, threads: int) -> dict[str, Any]:
        with TemporaryDirectory(prefix="edge-compress-") as folder:
            given, job = self._job(engine_path, inputs, Path(folder), threads=threads)
            return self.device.job(what, {**job, "engine": given[0]}, files=given[1], limit_s=JOB_LIMIT_S)

    def _job(
        self, engine_path: Path, inputs: NDArray[Any], folder: Path, *, threads: int
    ) -> tuple[tuple[str, dict[str, Path]], dict[str, Any]]:
        """The engine's name and all files of a job, and the job but for its engine."""
        entry = self._given(engine_path, inputs, folder / "inputs.raw")
        name = f"engine{self.suffix}"
        job = {
            "runtime": self.name, "inputs": [entry], "settings": self._settings(threads, None),
            "identity": said_of(engine_path).get("identity"),
        }  # fmt: skip
        return (name, {name: engine_path, entry["file"]: folder / entry["file"]}), job

    def _given(self, engine_path: Path, inputs: NDArray[Any], file: Path) -> dict[str, Any]:
        """The inputs in a file, in the kind of numbers that this engine takes; the entry of a job."""
        door = said_of(engine_path).get("input") or {}
        given = inputs.astype(door.get("dtype", inputs.dtype.name), copy=False)
        return written_raw(given, file, name=str(door.get("name", "")))

    def _settings(self, threads: int, onnx_path: Path | None) -> dict[str, Any]:
        told = {"threads": threads, **self.settings}
        if self.name == TENSORRT and onnx_path is not None:
            content = onnx_path.read_bytes()
            told["mode"] = "int8" if b"QuantizeLinear" in content else "float"
            told.setdefault("timing_cache", TIMING_CACHE)
        return told

    def _refuse_strange(self, engine_path: Path) -> None:
        """Pass an engine of this device's runtime and kind of processor; TensorRT's jobs check what else must be."""
        if self.name == ONNX_RUNTIME:
            built = read_stamp(engine_path)
            here = stamp_of({"runtime": self.runtime}, self.device.facts(), threads=built.threads)
            theirs, ours = _words(built), _words(here)
        else:
            ours = self.runtime
            theirs = str((said_of(engine_path).get("identity") or {}).get("runtime", ours))
        if theirs != ours:
            raise EngineRefused(
                f"The engine {engine_path} was built by {theirs}; {self.device.address} has {ours}. Build it again "
                "from its ONNX."
            )


def _words(stamp: Stamp) -> str:
    return f"{stamp.runtime} on {stamp.architecture} ({', '.join(sorted(set(stamp.cpu_features))) or 'no features'})"


def stamp_of(told: Mapping[str, Any], facts: Mapping[str, Any], *, threads: int) -> Stamp:
    """Of an engine that a device with these facts built; told: what the job said."""
    features = tuple(str(each) for each in facts.get("cpu_features") or ())
    return Stamp(str(told["runtime"]), str(facts.get("architecture")), features, threads)


def input_of(onnx_path: Path) -> dict[str, str]:
    """Name and kind of the one input of an ONNX file."""
    import onnx  # here, because the command's help does without

    graph = onnx.load(str(onnx_path), load_external_data=False).graph
    constants = {each.name for each in graph.initializer}
    door = next(each for each in graph.input if each.name not in constants)
    kind = onnx.helper.tensor_dtype_to_np_dtype(door.type.tensor_type.elem_type)
    return {"name": door.name, "dtype": np.dtype(kind).name}


def beside_engine(engine_path: Path) -> Path:
    """Where what the device said of an engine lies."""
    return engine_path.with_name(engine_path.name + ".json")


def said_of(engine_path: Path) -> dict[str, Any]:
    """What the device said when it built the engine; nothing where that is not there."""
    try:
        said = json.loads(beside_engine(engine_path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
