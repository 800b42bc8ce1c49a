"""The rows of the comparison: float networks with their weights and data, written as files that quantizers are given.

    given/     float.onnx · calibration.npy · choosing.npy, labels.npy, answers.npy (of the float network), places.npy
    judged/    inputs.npy, labels.npy: the test, which no quantizer sees; boxes.npy, where mAP50 is measured (M, 6)

Of a detector the labels are the float network's answers, and "accuracy" is fidelity (pipeline/data/fidelity.py).

Calibration inputs are drawn from the training and validation parts, and so are the choosing ones, which contain them.
"""

import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from torch import nn

from int8_peers.detections import Boxes, kept_truths, network_inputs, pictures_in, truths_in
from int8_peers.trained_teacher import Trained, identity_of, teacher_of
from pipeline.data.cifar10 import Cifar10
from pipeline.data.dataset import Dataset, DataSource, Split, inputs_for_network
from pipeline.data.fidelity import fidelity_of
from pipeline.data.find_files import find_file
from pipeline.data.photographs import Photographs
from pipeline.data.unlabelled import Unlabelled
from pipeline.graph.module_from_onnx import module_from_onnx
from pipeline.models.checkpoint import load_state, state_from_file
from pipeline.models.mobilenet_v1 import mobilenet_v1_025
from pipeline.models.mobilenet_v2 import mobilenet_v2
from pipeline.models.resnet_cifar import resnet20, resnet56
from pipeline.models.squeezenet import squeezenet_1_1
from pipeline.stages.export import onnx_of
from pipeline.store import digest_of, file_digest, read_json, write_json
from targets.engines.ort import open_onnx

CHOOSING_MOST = 1000  # inputs that settings are chosen with


@dataclass(frozen=True)
class Network:
    """One row.

    weights: the file to look for below the data folder
    """

    name: str
    factory: Callable[[], nn.Module]
    weights: str
    data: DataSource


@dataclass(frozen=True)
class Detector:
    """A row whose network is an ONNX file that names no class.

    file: to look for below the data folder · mean, std: of its pictures, which are those of COCO128
    boxes: whether its answers are read as boxes and its inputs prepared as in detections.py
    most: of the 128 pictures to calibrate with
    """

    name: str
    file: str
    mean: tuple[float, ...] = (0.0,) * 3
    std: tuple[float, ...] = (1.0,) * 3
    boxes: bool = False
    most: int = 60


PICTURES = "coco128_train.tar"
Row = Network | Detector | Trained
NETWORKS: tuple[Row, ...] = (
    Network("resnet20", resnet20, "resnet20-12fca82f.th", Cifar10()),
    Network("resnet56", resnet56, "resnet56-4bfd9763.th", Cifar10()),
    Network("mobilenet_v1", mobilenet_v1_025, "mobilenet_v1_x0.25_fp32.safetensors", Photographs()),
    Network("mobilenet_v2", mobilenet_v2, "mobilenet_v2_from_tflite_int8.safetensors", Photographs()),
    Network("squeezenet", squeezenet_1_1, "squeezenet1_1_from_ncnn_fp16.safetensors", Photographs()),
    Detector("ultraface", "version-RFB-320.onnx", (127 / 255,) * 3, (128 / 255,) * 3),
    Detector("fastestdet", "FastestDet.onnx", boxes=True),
    Trained("encoder", "clinc150"),
)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A row with its files read: boxes is of each picture by its index in the data set."""

    dataset: Dataset
    module: nn.Module
    boxes: list[Boxes] | None = None


def write_inputs(network: Row, data: Path, *, into: Path, calibration: int, seed: int) -> None:
    """Write the files of a row below `into`, unless they are there already for the same weights and numbers."""
    if isinstance(network, Detector):
        calibration = min(calibration, network.most)
    key = key_of(network, data, beside=into.parent, calibration=calibration, seed=seed)
    stated = into / "given" / "key.json"
    if stated.is_file() and read_json(stated) == key:
        return
    loaded = loaded_from(network, data, beside=into.parent, seed=seed)
    dataset = loaded.dataset
    for folder in ("given", "judged"):
        (into / folder).mkdir(parents=True, exist_ok=True)
    model = into / "given" / "float.onnx"
    onnx.save(onnx_of(loaded.module, input_shape=dataset.input_shape), model)
    choosing, labels, places = drawn(dataset, calibration=calibration, seed=seed)
    with closing(open_onnx(model, threads=1)) as runner:
        answers = runner(choosing)
    arrays = {"choosing": choosing, "labels": labels, "answers": answers, "places": places,
              "calibration": choosing[places]}  # fmt: skip
    for name, array in arrays.items():
        np.save(into / "given" / f"{name}.npy", array)
    np.save(into / "judged" / "inputs.npy", inputs_for_network(dataset, dataset.test.inputs))
    np.save(into / "judged" / "labels.npy", dataset.test.labels)
    if loaded.boxes is not None:
        shown = [loaded.boxes[index] for index in dataset.test.indices]
        np.save(into / "judged" / "boxes.npy", kept_truths(shown))
    write_json(stated, key)


def key_of(network: Row, data: Path, *, beside: Path, calibration: int, seed: int) -> str:
    """Of all that a row's files hang on."""
    match network:
        case Network():
            return digest_of(network.name, file_digest(weights_of(network, data)), calibration, seed)
        case Detector():
            files = [file_digest(each) for each in (weights_of(network, data), tar_of(data))]
            return digest_of(network, files, calibration, seed)
        case Trained():
            return digest_of(network, identity_of(network, data, cache=beside / "data"), calibration, seed)


def weights_of(network: Network | Detector, data: Path) -> Path:
    """The file of a row's weights."""
    name = network.weights if isinstance(network, Network) else network.file
    return find_file([name], data, what=f"the weights of {network.name}")


def tar_of(data: Path) -> Path:
    """The photographs of COCO128."""
    return find_file([PICTURES], data, what="the photographs of COCO128")


def loaded_from(network: Row, data: Path, *, beside: Path, seed: int) -> Loaded:
    """The network of a row in torch, and its data; beside: where what is worth keeping may be kept."""
    match network:
        case Network():
            module = network.factory()
            weights = weights_of(network, data)
            load_state(module, state_from_file(weights), path=weights)
            return Loaded(network.data(data, cache=beside / "data"), module)
        case Detector():
            return detector_from(network, weights_of(network, data), tar_of(data), beside=beside)
        case Trained():
            return Loaded(*teacher_of(network, data, beside=beside, seed=seed))


def detector_from(network: Detector, model: Path, tar: Path, *, beside: Path) -> Loaded:
    """A detector and the photographs of COCO128, with its answers for labels."""
    folder = beside / ("inputs" if network.boxes else "photographs") / network.name
    folder.mkdir(parents=True, exist_ok=True)
    boxes = None
    if network.boxes:
        pictures = pictures_in(tar)
        np.save(folder / "pictures.npy", network_inputs(list(pictures.values())))
        boxes = truths_in(tar, list(pictures))
    else:
        with tarfile.open(tar) as archive:
            for member in archive.getmembers():
                file = archive.extractfile(member) if member.name.endswith(".jpg") else None
                if file is not None:
                    (folder / Path(member.name).name).write_bytes(file.read())
    source = Unlabelled(str(model), mean=network.mean, std=network.std, fidelity=fidelity_of(model))
    return Loaded(source(folder, cache=beside / "data"), module_from_onnx(model), boxes)


def drawn(dataset: Dataset, *, calibration: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The choosing inputs, their labels, and which of them are the calibration's: validation first, then training."""
    random = np.random.default_rng(seed)
    inputs, labels, room = [], [], CHOOSING_MOST
    for split in (dataset.validation, dataset.train):
        places = np.sort(random.permutation(len(split.labels))[:room])
        inputs.append(_inputs(dataset, split, places))
        labels.append(split.labels[places])
        room -= len(places)
    found = np.concatenate(inputs)
    if calibration >= len(found):
        raise ValueError(
            f"{calibration} calibration inputs were asked for; {dataset.name} has {len(found)} outside the test, and "
            "some must be left to check with."
        )
    return found, np.concatenate(labels), np.sort(random.permutation(len(found))[:calibration])


def _inputs(dataset: Dataset, split: Split, places: np.ndarray) -> np.ndarray:
    return inputs_for_network(dataset, split.inputs[places])
