"""The runner against the Python API of every TensorRT that it claims: recorded names, and real bindings where given.

EDGE_COMPRESS_TENSORRT_WHEELS names a folder of unpacked wheels: each folder in it holds `tensorrt_bindings` and
`tensorrt_cu1?_bindings-VERSION.dist-info`. They are imported beside three stub libraries, without a GPU.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text(encoding="utf-8"))["versions"]
CLAIMED = ("10.3", "10.13", "10.16", "11.4", "rtx1.7")
STUBS = {
    "libnvinfer": (
        "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry", "getPluginRegistry",
    ),
    "libnvonnxparser": ("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    "libnvinfer_plugin": ("initLibNvInferPlugins",),
}  # fmt: skip
ASK = """
import json, sys, tensorrt_bindings as trt
wanted = json.loads(sys.argv[1])
missing = [f"{owner}.{member}" for owner, member in wanted
           if not hasattr(trt, owner) or (member and not hasattr(getattr(trt, owner), member))]
print(json.dumps({"version": trt.__version__, "missing": missing}))
"""


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool that reads the runner's source."""
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "tools"), *sys.path])
    import tensorrt_api_names

    return tensorrt_api_names


def version_of(name: str) -> tuple[int, ...]:
    """TensorRT-RTX 1.7 has the API of 11."""
    return (11, 4) if name == "rtx1.7" else tuple(int(part) for part in name.split("."))


def read_text(reader: Any, text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """What a piece of source uses, and what it does not tell."""
    found = reader.Reader("piece", {"STRONG_ALONE_FROM": (11,)}, {"engine": "ICudaEngine"})
    found.block(ast.parse(text).body, {}, {})
    return [(use.owner, use.member) for use in found.uses if use.reached_by((11, 4))], found.untold


def test_the_runner_uses_more_than_60_names_and_tells_the_class_of_each_object(reader: Any) -> None:
    uses, untold = reader.read(reader.SOURCES)
    assert untold == []
    assert len({(use.owner, use.member) for use in uses}) > 60
    used = {(use.owner, use.member) for use in uses}
    assert ("IExecutionContext", "execute_async_v3") in used
    assert ("IProgressMonitor", "step_complete") in used
    assert ("DataType", "HALF") in used


@pytest.mark.parametrize("name", CLAIMED)
def test_every_name_that_1_version_reaches_is_a_name_of_that_version(reader: Any, name: str) -> None:
    version = version_of(name)
    gone = [
        f"{use.where}: {use.owner}.{use.member}"
        for use in reader.read(reader.SOURCES)[0]
        if use.reached_by(version)
        and (use.owner not in NAMES[name] or (use.member and use.member not in NAMES[name][use.owner].split()))
    ]
    assert gone == []


def test_the_recorded_names_of_11_4_lack_the_2_flags_of_weak_typing_and_those_of_10_have_them() -> None:
    assert {"FP16", "INT8"} <= set(NAMES["10.16"]["BuilderFlag"].split())
    assert not {"FP16", "INT8"} & set(NAMES["11.4"]["BuilderFlag"].split())
    assert "QuantizationFlag" not in NAMES["11.4"]


def test_a_removed_name_is_found_where_no_if_on_the_version_keeps_11_away(reader: Any) -> None:
    piece = "config: trt.IBuilderConfig = make()\nconfig.int8_calibrator = None\n"
    assert ("IBuilderConfig", "int8_calibrator") in read_text(reader, piece)[0]
    guarded = (
        "def f(config: trt.IBuilderConfig):\n    if version < (11,) and weak:\n        config.int8_calibrator = 1\n"
    )
    assert read_text(reader, guarded)[0] == []
    other = "if version < STRONG_ALONE_FROM:\n    pass\nelse:\n    trt.BuilderFlag.FP16\n"
    assert ("BuilderFlag", "FP16") in read_text(reader, other)[0]


def test_an_object_without_its_class_beside_it_is_reported_with_its_line_1(reader: Any) -> None:
    assert read_text(reader, "builder = trt.Builder(logger)")[1] == ["piece:1: builder has no class beside it"]
    chained = "trt.Runtime(logger).deserialize_cuda_engine(b'')"
    assert read_text(reader, chained)[1] == ["piece:1: .deserialize_cuda_engine of a result whose class is not told"]
    assert read_text(reader, "self.engine.num_layers")[0] == [("ICudaEngine", "num_layers")]


def test_the_real_bindings_have_every_name_that_their_version_1_by_1_reaches(reader: Any, tmp_path: Path) -> None:
    folder = Path(os.environ.get("EDGE_COMPRESS_TENSORRT_WHEELS", ""))
    wheels = sorted(path.parent for path in folder.glob("*/tensorrt_bindings")) if folder.name else []
    lacking = [what for what, there in (
        ("EDGE_COMPRESS_TENSORRT_WHEELS, a folder with unpacked wheels of tensorrt-cu12-bindings", wheels),
        ("gcc", shutil.which("gcc")),
    ) if not there]  # fmt: skip
    if lacking:
        pytest.skip("missing: " + "; ".join(lacking))
    uses = reader.read(reader.SOURCES)[0]
    for wheel in wheels:
        version = next(wheel.glob("*.dist-info")).name.removesuffix(".dist-info").split("-")[1]
        number = tuple(int(part) for part in version.split(".")[:2])
        wanted = sorted({(use.owner, use.member) for use in uses if use.reached_by(number)})
        libraries = stub_libraries(tmp_path, major=number[0])
        answer = subprocess.run(
            [sys.executable, "-c", ASK, json.dumps(wanted)], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONPATH": str(wheel), "LD_LIBRARY_PATH": str(libraries)},
        )  # fmt: skip
        assert answer.returncode == 0, f"{wheel.name}: {answer.stderr[-300:]}"
        assert json.loads(answer.stdout) == {"version": version, "missing": []}
        recorded = NAMES[".".join(version.split(".")[:2])]
        assert [use for use in wanted if use[1] and use[1] not in recorded[use[0]].split()] == []


def stub_libraries(folder: Path, *, major: int) -> Path:
    """Three libraries whose functions return 0: enough for the bindings to be imported."""
    place = folder / str(major)
    place.mkdir(exist_ok=True)
    for name, functions in STUBS.items():
        source = place / f"{name}.c"
        source.write_text("".join(f"void *{function}(void) {{ return 0; }}\n" for function in functions))
        soname = f"{name}.so.{major}"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(place / soname), str(source)]
        subprocess.run(command, check=True, timeout=60)
    return place
