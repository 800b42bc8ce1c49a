# ruff: noqa: T201
"""Answer image files with the engine of this folder: python run.py IMAGE [IMAGE …] [--top 5] [--threads N] [--json]
[--save ANSWERS.npz]

This folder stands alone: Python 3.8 or later, numpy and the runtime that manifest.json names are all it needs:
onnxruntime, openvino, or TensorRT, which on_device.pyz beside this file asks. Where the engine is not for this machine,
or not built yet, model.onnx answers in onnxruntime, and a sentence says so. Images are read and prepared by the very
files that prepared the training data (preprocess.py, images.py and the readers), so that the same picture gives the
same numbers everywhere. A network that does not take images takes .npy files: one input each, as trained. The answer is
the classes with the highest probability; where the network's answers name no class it is each output with its shape and
range. --save keeps the numbers of all outputs as OUTPUT/PLACE, the place of the file among those asked for, from 0.

The result goes to stdout, remarks to stderr. Exit code 0: every file was answered. 2: one was not, or something that
must stand beside this file is missing; a sentence says what.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

# What is copied into a bundle beside this file, from the folder of the training data's code.
BESIDE = ("preprocess.py", "images.py", "png_reader.py", "jpeg_reader.py", "jpeg_scan.py", "jpeg_pixels.py")
OWN = ("shown_answers.py", "opened_engine.py", "built_for.py", "plan_answers.py")  # and from this file's own folder


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
        found = answers_to(asked.images, manifest=manifest, folder=folder, threads=asked.threads)
    except Unanswered as sentence:
        print(f"run.py: {sentence}", file=sys.stderr)
        return 2

    from shown_answers import lines_of, saved, summaries, top_classes  # type: ignore[import-not-found]

    answers: list[dict[str, Any]] = []
    kept: dict[str, npt.NDArray[Any]] = {}
    for place, (path, outputs) in enumerate(zip(asked.images, found)):  # noqa: B905 - 3.8
        try:
            if isinstance(outputs, Unanswered):
                raise outputs
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
    from opened_engine import is_here  # type: ignore[import-not-found]

    runtime = str(manifest["engine"]["runtime"])
    package = next((each for each in ("openvino", "tensorrt") if runtime.startswith(each)), "onnxruntime")
    missing = [name for name in ("numpy", package) if not (name == "tensorrt" or is_here(name))]
    if not missing or (missing == ["openvino"] and is_here("onnxruntime")):  # model.onnx answers then
        return
    wanted = runtime.replace(" ", "==") if runtime.startswith(package) else package
    wanted = "numpy" if package == "tensorrt" else wanted
    raise Unanswered(
        f"{' and '.join(missing)} cannot be imported. Install what this bundle needs: "
        f"{sys.executable} -m pip install {wanted}"
    )


def answers_to(
    paths: list[str], *, manifest: dict[str, Any], folder: Path, threads: int | None
) -> Iterator[dict[str, npt.NDArray[Any]] | Unanswered]:
    """For each file its outputs by name, or why it has none."""
    from opened_engine import EngineUnusable, session_of

    engine, runtime = folder / manifest["engine"]["file"], str(manifest["engine"]["runtime"])
    threads = threads or manifest["engine"].get("threads") or 0  # 0: the runtime chooses
    if runtime.startswith("tensorrt"):
        try:
            return answers_of_plan(paths, manifest=manifest, folder=folder)
        except Unanswered as sentence:
            why = f"the engine {engine.name} cannot be used ({sentence})"
    elif runtime.startswith("unbuilt"):
        why = "this bundle has no engine yet; build_on_device.py, on the device that it is for, builds one"
    else:
        try:
            return each_of(paths, manifest=manifest, session=session_of(engine, runtime, threads=threads))
        except EngineUnusable as sentence:
            why = f"the engine {engine.name} cannot be used ({sentence})"
    return each_of(paths, manifest=manifest, session=portable_session(folder / "model.onnx", why, threads=threads))


def each_of(
    paths: list[str], *, manifest: dict[str, Any], session: Any
) -> Iterator[dict[str, npt.NDArray[Any]] | Unanswered]:
    """One file after the other, through a session."""
    for path in paths:
        try:
            yield outputs_for(path, manifest=manifest, session=session)
        except Unanswered as sentence:
            yield sentence


def answers_of_plan(
    paths: list[str], *, manifest: dict[str, Any], folder: Path
) -> Iterator[dict[str, npt.NDArray[Any]] | Unanswered]:
    """All files at once through TensorRT; raises Unanswered where it does not answer here."""
    from plan_answers import PlanRefused, plan_answers  # type: ignore[import-not-found]

    refused: dict[int, Unanswered] = {}
    shape, kind = list(manifest["input"].get("shape") or ()), str(manifest["input"].get("dtype") or "float32")

    def samples() -> Iterator[npt.NDArray[Any]]:
        for place, path in enumerate(paths):
            try:
                sample = sample_for(path, manifest=manifest, kind=kind, shape=shape)
                if list(sample.shape) != shape:
                    raise Unanswered(f"{path}: the engine takes {shape} and got {list(sample.shape)}")
                yield sample
            except Unanswered as sentence:
                refused[place] = sentence

    try:
        answers, remarks = plan_answers(samples(), manifest=manifest, bundle=folder)
    except PlanRefused as why:
        raise Unanswered(str(why)) from why
    for remark in remarks:
        print(f"run.py: {remark}", file=sys.stderr)
    rest = iter(answers)
    return iter([refused[place] if place in refused else next(rest) for place in range(len(paths))])


def portable_session(model: Path, why: str, *, threads: int) -> Any:
    """The portable model beside the engine, which answers instead."""
    from opened_engine import is_here, onnx_session

    if not model.is_file():
        raise Unanswered(f"{why}, and there is no model.onnx beside it.")
    print(
        f"run.py: {why}. model.onnx answers instead: the measurements of this bundle do not hold for it.",
        file=sys.stderr,
    )
    if not is_here("onnxruntime"):
        raise Unanswered(f"for model.onnx onnxruntime is needed: {sys.executable} -m pip install onnxruntime")
    try:
        return onnx_session(model, threads=threads, optimize=True)
    except Exception as error:
        raise Unanswered(f"model.onnx cannot be used either: {first_line(error)}") from error


def outputs_for(path: str, *, manifest: dict[str, Any], session: Any) -> dict[str, npt.NDArray[Any]]:
    """What the engine answers to one file: the arrays of its outputs by name, in order."""
    import numpy as np
    from opened_engine import KINDS

    door = session.get_inputs()[0]
    sample = sample_for(path, manifest=manifest, kind=KINDS.get(door.type, "float32"), shape=list(door.shape))
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


def sample_for(path: str, *, manifest: dict[str, Any], kind: str, shape: list[Any]) -> npt.NDArray[Any]:
    """One file as the engine takes it, with the axis of the batch."""
    import numpy as np

    given = input_from(path, manifest=manifest)
    sample = given.astype(kind, copy=False)
    if kind.startswith("int") and not np.array_equal(sample, given):
        raise Unanswered(f"{path}: the engine takes whole numbers ({kind}); this {given.dtype} holds others.")
    if sample.ndim == len(shape) - 1:
        sample = sample[np.newaxis]
    return sample


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
