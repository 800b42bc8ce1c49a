"""A stand-in for NVIDIA's Python package `tensorrt`, for tests: it builds nothing and computes output = 2 · input.

It has the names that were recorded of one version (settings: `tensorrt.json` beside it, or the file that
STANDIN_TENSORRT names) and no others: a removed name is an AttributeError here as it is there. An engine is a JSON file
of what was asked of the builder. Input x: float32 (2, 3); output y: the same.

    version "10.3.0" · output "FLOAT": or the type that y has · refuses: a sentence, the parser's error
    dies: the number of a signal, in the builder
"""

import ctypes
import enum
import json
import os
import struct
from pathlib import Path

SETTINGS = {
    "version": "10.3.0", "output": "FLOAT", "refuses": "", "dies": 0,
    **json.loads(Path(os.environ.get("STANDIN_TENSORRT") or Path(__file__).with_suffix(".json")).read_text()),
}  # fmt: skip
RECORDED = json.loads(Path(__file__).parents[1].joinpath("tensorrt_names.json").read_text())["versions"]
NAMES = RECORDED[".".join(SETTINGS["version"].split(".")[:2])]
__version__ = SETTINGS["version"]
MAGIC = b"STAND-IN PLAN "
SHAPE = (2, 3)


class Recorded:
    """Attributes that are no recorded names of the class are refused, read or written."""

    def __getattribute__(self, name):
        if not name.startswith("_") and name not in NAMES[type(self).__name__].split():
            raise AttributeError(f"{type(self).__name__} of TensorRT {__version__} has no {name}")
        return object.__getattribute__(self, name)

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in NAMES[type(self).__name__].split():
            raise AttributeError(f"{type(self).__name__} of TensorRT {__version__} has no {name}")
        object.__setattr__(self, name, value)


for _name in ("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "ProfilingVerbosity", "TensorIOMode",
              "LayerInformationFormat", "DataType"):  # fmt: skip
    globals()[_name] = enum.IntEnum(_name, NAMES[_name].split(), start=0)


class Logger:
    WARNING = 2

    def __init__(self, severity):
        self.severity = severity


class IProgressMonitor:
    pass


class IProfiler:
    pass


class Builder(Recorded):
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def create_network(self, flags=0):
        return INetworkDefinition(flags)

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        if SETTINGS["dies"]:
            os.kill(os.getpid(), SETTINGS["dies"])
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", "", 2)
        monitor.phase_start("Tactics", "Building Engine", 5)
        for step in range(2):
            assert monitor.step_complete("Building Engine", step)
        monitor.phase_finish("Building Engine")
        asked = {**config._asked, "strongly_typed": bool(network._flags), "onnx": network._onnx}
        return IHostMemory(MAGIC + json.dumps(asked).encode())


class IBuilderConfig(Recorded):
    def __init__(self):
        self._asked = {"flags": [], "cache": None}

    def set_flag(self, flag):
        self._asked["flags"].append(flag.name)

    def set_memory_pool_limit(self, pool, size):
        self._asked[pool.name] = size

    def create_timing_cache(self, content):
        return ITimingCache(bytes(content))

    def set_timing_cache(self, cache, ignore_mismatch):
        self._cache = cache
        self._asked["cache"] = cache._content.decode()
        return True

    def get_timing_cache(self):
        return self._cache


class INetworkDefinition(Recorded):
    def __init__(self, flags):
        self._flags = flags


class OnnxParser(Recorded):
    num_errors = 1

    def __init__(self, network, logger):
        self._network = network

    def parse_from_file(self, path):
        self._network._onnx = Path(path).read_text()
        return not SETTINGS["refuses"]

    def get_error(self, place):
        return ParserError()


class ParserError(Recorded):
    def desc(self):
        return SETTINGS["refuses"]

    def node_name(self):
        return "conv1"

    def node_operator(self):
        return "QuantizeLinear"


def IHostMemory(content):  # noqa: N802 - a class there; bytes are read from it and nothing else
    return content


class ITimingCache(Recorded):
    def __init__(self, content):
        self._content = content

    def serialize(self):
        return IHostMemory(self._content + b"+1 build")


class Runtime(Recorded):
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, content):
        return ICudaEngine(content) if content.startswith(MAGIC) else None


class ICudaEngine(Recorded):
    num_io_tensors = 2

    def __init__(self, content):
        self._asked = json.loads(content[len(MAGIC) :])

    def create_execution_context(self):
        return IExecutionContext()

    def create_engine_inspector(self):
        return EngineInspector(self._asked)

    def get_tensor_name(self, place):
        return ["x", "y"][place]

    def get_tensor_shape(self, name):
        return SHAPE

    def get_tensor_mode(self, name):
        return TensorIOMode["OUTPUT"] if name == "y" else None  # noqa: F821 - made above

    def get_tensor_dtype(self, name):
        return DataType[SETTINGS["output"] if name == "y" else "FLOAT"]  # noqa: F821 - made above


class IExecutionContext(Recorded):
    profiler = None

    def __init__(self):
        self._addresses = {}

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == 7
        values = struct.unpack("<6f", ctypes.string_at(self._addresses["x"], 24))
        letter = {"FLOAT": "f", "HALF": "e", "INT32": "i"}[SETTINGS["output"]]
        doubled = [2 * value if letter != "i" else int(2 * value) for value in values]
        content = struct.pack(f"<6{letter}", *doubled)
        ctypes.memmove(self._addresses["y"], content, len(content))
        if self.profiler is not None:
            for name, milliseconds in (("conv1", 0.5), ("reformat", 0.125)):
                self.profiler.report_layer_time(name, milliseconds)
        return True


class EngineInspector(Recorded):
    def __init__(self, asked):
        self._asked = asked

    def get_engine_information(self, form):
        assert form.name == "JSON"
        tensor = [{"Name": "x", "Format/Datatype": "Row major linear FP32"}]
        eight = [{"Name": "r", "Format/Datatype": "Int8 NC/32HW32"}]
        return json.dumps({"Layers": [
            {"Name": "reformat", "LayerType": "Reformat", "Inputs": tensor, "Outputs": eight, "Origin": "QDQ"},
            {"Name": "conv1", "LayerType": "CaskConvolution", "ParameterType": "Convolution", "Inputs": eight,
             "Outputs": tensor, "Weights": {"Type": "Int8", "Count": 9}},
        ]})  # fmt: skip


_OWN = ("SETTINGS", "RECORDED", "NAMES", "MAGIC", "SHAPE", "Path", "Recorded")
for _name in list(globals()):  # what this version does not have is not here either
    if _name[0].isupper() and _name not in NAMES and _name not in _OWN:
        del globals()[_name]
