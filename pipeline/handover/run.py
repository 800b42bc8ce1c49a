# ruff: noqa: T201
"""Answer image files with the engine of this folder: python run.py IMAGE [IMAGE …] [--top 5] [--threads N] [--json]
[--save ANSWERS.npz]

This folder stands alone: Python 3.8 or later, numpy and the runtime that manifest.json names (onnxruntime or openvino)
are all it needs. Images are read and prepared by the very files that prepared the training data (preprocess.py,
images.py and the readers), so that the same picture gives the same numbers everywhere. A network that does not take
images takes .npy files: one input each, as trained. The answer is the classes with the highest probability; where the
network's answers name no class it is each output with its shape and range. --save keeps the numbers of all outputs as
OUTPUT/PLACE, the place of the file among those asked for, from 0.

The result goes to stdout, remarks to stderr. Exit code 0: every file was answered. 2: one was not, or something that
must stand beside this file is missing; a sentence says what.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# What is copied into a bundle beside this file, from the folder of the training data's code.
BESIDE = ("preprocess.py", "images.py", "png_reader.py", "jpeg_reader.py", "jpeg_scan.py", "jpeg_pixels.py")
OWN = ("shown_answers.py",)  # and from this file's own folder
# How the runtimes name what an input is made of.
KINDS = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64", "tensor(int32)": "int32",
    "f32": "float32", "f16": "float16", "i64": "int64", "i32": "int32",
}  # fmt: skip
STAMP = b"edge_compress.stamp"  # behind the model in an engine file: what wrote it, and its digest


class Unanswered(Exception):
    """The message is the whole sentence to print."""


def main(arguments: list[str] | None = None) -> int:
    asked = arguments_from(arguments)
    folder = Path(__file__).resolve().parent
    if str(folder) not in sys.path:  # python -I, python -P and PYTHONSAFEPATH leave it out
        sys.path.insert(0, str(folder))
    try:
        manifest = json_beside(folder / "manifest.json")
        check_installed(manifest, folder)
        labels = json_beside(folder / manifest["labels"]) if manifest.get("labels") else []
        session = open_engine(manifest, folder, threads=asked.threads)
    except Unanswered as sentence:
        print(f"run.py: {sentence}", file=sys.stderr)
        return 2

    from shown_answers import lines_of, saved, summaries, top_classes  # type: ignore[import-not-found]

    answers: list[dict[str, Any]] = []
    kept: dict[str, npt.NDArray[Any]] = {}
    for place, path in enumerate(asked.images):
        try:
            outputs = outputs_for(path, manifest=manifest, session=session)
            if manifest.get("classes", len(labels) or 1) == 0:
                answer = {"outputs": summaries(outputs)}
            else:
                answer = {"top": top_classes(outputs, labels=labels, count=asked.top)}
        except (Unanswered, ValueError) as error:
            said = str(error) if isinstance(error, Unanswered) else f"{path}: {error}"
            print(f"run.py: {said}", file=sys.stderr)
            answers.append({"image": path, "error": said})
            continue
        kept.update({f"{name}/{place}": values for name, values in outputs.items()})
        answers.append({"image": path, **answer})
        if not asked.json:
            print("\n".join([path, *lines_of(answer)]))
    if asked.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    if asked.save is not None:
        try:
            saved(kept, asked.save)
        except OSError as error:
            print(f"run.py: {asked.save} cannot be written: {first_line(error)}", file=sys.stderr)
            return 2
    return 2 if any("error" in answer for answer in answers) else 0


def arguments_from(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Answer image files with the engine of this folder.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG, BMP, PNM or NPY")
    parser.add_argument("--top", type=positive, default=5, help="how many classes to print (5)")
    parser.add_argument("--threads", type=positive, help="threads of the engine (those it was measured with)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--save", metavar="FILE.npz", type=Path, help="keep every number of every output")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def json_beside(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unanswered(f"{path} is missing or damaged ({error}). Copy the whole bundle folder again.") from error


def check_installed(manifest: dict[str, Any], folder: Path) -> None:
    """Say in a sentence what a traceback would say in twenty lines."""
    lost = [name for name in (*BESIDE, *OWN) if not (folder / name).is_file()]
    if lost:
        raise Unanswered(f"{', '.join(lost)} must stand in {folder}. Copy the whole bundle folder again.")
    runtime = str(manifest["engine"]["runtime"])
    package = "openvino" if runtime.startswith("openvino") else "onnxruntime"
    missing = [name for name in ("numpy", package) if not is_here(name)]
    if not missing or (missing == ["openvino"] and is_here("onnxruntime")):  # model.onnx answers then
        return
    wanted = runtime.replace(" ", "==") if runtime.startswith(package) else package
    raise Unanswered(
        f"{' and '.join(missing)} cannot be imported. Install what this bundle needs: "
        f"{sys.executable} -m pip install {wanted}"
    )


def is_here(package: str) -> bool:
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def open_engine(manifest: dict[str, Any], folder: Path, *, threads: int | None) -> Any:
    """The engine as it was measured, or else the portable model beside it."""
    engine, model = folder / manifest["engine"]["file"], folder / "model.onnx"
    threads = threads or manifest["engine"].get("threads") or 0  # 0: the runtime chooses
    try:
        return session_of(engine, str(manifest["engine"]["runtime"]), threads=threads)
    except Unanswered as sentence:
        why = str(sentence)
    if not model.is_file():
        raise Unanswered(f"the engine {engine.name} cannot be used ({why}), and there is no model.onnx beside it.")
    print(
        f"run.py: the engine {engine.name} cannot be used ({why}). model.onnx answers instead: the measurements of "
        "this bundle do not hold for it.",
        file=sys.stderr,
    )
    if not is_here("onnxruntime"):
        raise Unanswered(f"for model.onnx onnxruntime is needed: {sys.executable} -m pip install onnxruntime")
    try:
        return onnx_session(model, threads=threads, optimize=True)
    except Exception as error:
        raise Unanswered(f"model.onnx cannot be used either: {first_line(error)}") from error


def session_of(engine: Path, runtime: str, *, threads: int) -> Any:
    """The engine in the runtime it was measured in; what is raised says why not, for a sentence."""
    if not runtime.startswith(("onnxruntime", "openvino")):
        raise Unanswered(f"it is for {runtime}, and this runner answers with onnxruntime or openvino")
    if not engine.is_file():
        raise Unanswered("it is not there")
    package = "openvino" if runtime.startswith("openvino") else "onnxruntime"
    if not is_here(package):
        raise Unanswered(f"{package} is not installed: {sys.executable} -m pip install {runtime.replace(' ', '==')}")
    try:
        if package == "openvino":
            return OpenVinoSession(engine, threads=threads)
        # The file holds the graph as it was optimised for the device: what was measured is what runs.
        return onnx_session(engine, threads=threads, optimize=False)
    except Unanswered:
        raise
    except Exception as error:
        version = getattr(import_module(package), "__version__", "")
        raise Unanswered(f"{package} {version} does not load it here: {first_line(error)}") from error


def onnx_session(path: Path, *, threads: int, optimize: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as it was measured
    options.log_severity_level = 4  # a failure is told once, by our own sentence
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OpenVinoSession:
    """An engine of openvino, asked with the two calls of a session of onnxruntime."""

    def __init__(self, path: Path, *, threads: int) -> None:
        import openvino

        model, built_by = model_and_runtime(path)
        here = f"openvino {openvino.__version__.split('-')[0]}"
        if built_by != here:  # another version reads other bytes into it
            raise Unanswered(f"it was built by {built_by}, and installed is {here}")
        settings = {
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        compiled = openvino.Core().import_model(io.BytesIO(model), "CPU", settings)  # as it was measured
        door = compiled.inputs[0]
        self.name, self.type = door.get_any_name(), door.get_element_type().get_type_name()
        self.shape = [axis.get_length() if axis.is_static else "N" for axis in door.get_partial_shape()]
        self.request = compiled.create_infer_request()

        self.outputs = len(compiled.outputs)

    def get_inputs(self) -> list[OpenVinoSession]:
        return [self]

    def run(self, _outputs: None, asked: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        answers = self.request.infer([asked[self.name]])
        return [answers[place] for place in range(self.outputs)]


def model_and_runtime(engine: Path) -> tuple[bytes, str]:
    """What stands before the stamp of an engine file, sound by its digest, and the runtime that wrote it."""
    written = engine.read_bytes()
    _, _, stamp = written.rpartition(STAMP)
    try:
        facts = json.loads(stamp[stamp.index(b"{") :])
        model = written[: facts["bytes"]]
        sound, runtime = hashlib.sha256(model).hexdigest() == facts["sha256"], str(facts["runtime"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unanswered("it is damaged") from error
    if not sound:
        raise Unanswered("it is damaged")
    return model, runtime


def outputs_for(path: str, *, manifest: dict[str, Any], session: Any) -> dict[str, npt.NDArray[Any]]:
    """What the engine answers to one file: the arrays of its outputs by name, in order."""
    import numpy as np

    door = session.get_inputs()[0]
    given, kind = input_from(path, manifest=manifest), KINDS.get(door.type, "float32")
    sample = given.astype(kind, copy=False)
    if kind.startswith("int") and not np.array_equal(sample, given):
        raise Unanswered(f"{path}: the engine takes whole numbers ({kind}); this {given.dtype} holds others.")
    if sample.ndim == len(door.shape) - 1:
        sample = sample[np.newaxis]
    if door.shape and isinstance(door.shape[0], int) and len(sample) == 1:
        sample = np.repeat(sample, door.shape[0], axis=0)  # an engine of fixed batch gets the input that often
    try:
        arrays = [np.array(each) for each in session.run(None, {door.name: sample})]
    except Exception as error:
        raise Unanswered(
            f"{path}: the engine takes {door.shape} and got {list(sample.shape)}: {first_line(error)}"
        ) from error
    names = [str(each["name"]) for each in manifest.get("outputs", [])]
    if len(names) != len(arrays):  # a manifest of before outputs were listed
        names = [f"output_{place}" for place in range(len(arrays))]
    return {names[place]: array[:1] for place, array in enumerate(arrays)}


def input_from(path: str, *, manifest: dict[str, Any]) -> npt.NDArray[Any]:
    """What the network takes, with the axis of the batch where the file is an image."""
    import numpy as np
    from images import ImageUnreadable, read_image  # type: ignore[import-not-found]
    from preprocess import network_input, pixels_for, preprocess_from_json  # type: ignore[import-not-found]

    if manifest["input"]["preprocess"] is None:
        try:
            array: npt.NDArray[np.generic] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise Unanswered(f"{path} cannot be read as a .npy file: {first_line(error)}") from error
        return array
    preprocess = preprocess_from_json(manifest["input"]["preprocess"])
    try:
        image = read_image(path)
    except ImageUnreadable as sentence:
        raise Unanswered(str(sentence)) from sentence
    answer: npt.NDArray[np.float32] = network_input(preprocess, pixels_for(preprocess, image)[np.newaxis])
    return answer


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
