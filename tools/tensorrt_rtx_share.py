"""How much of four networks NVIDIA's compiler multiplies in integers, for GPUs that are not here, as a Markdown table.

python tools/tensorrt_rtx_share.py [--data DIR] [--networks resnet20,…] [--capabilities 80,86,89,120]

Each network is quantized by calibration alone, exported, lowered for TensorRT (float32 around the integers, and
float16), held against our own validator, and built by TensorRT-RTX once per compute capability. Weights and inputs to
calibrate with are looked for below DIR; where they are missing, weights are initial ones and inputs are noise, and the
table says so. Nothing is timed but the builds.

Needs the extra: pip install 'edge-compress[tensorrt-rtx]'
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from calibration.observe import observe
from calibration.observers.mse import MeanSquaredError
from calibration.samples import Samples
from pipeline.data.cifar10 import Cifar10
from pipeline.data.clinc150_file import Clinc150
from pipeline.data.dataset import DataSource, inputs_for_network
from pipeline.data.find_files import find_file
from pipeline.data.photographs import Photographs
from pipeline.errors import DataMissing
from pipeline.models.checkpoint import load_state, state_from_file
from pipeline.models.mobilenet_v1 import mobilenet_v1_025
from pipeline.models.mobilenet_v2 import mobilenet_v2
from pipeline.models.resnet_cifar import resnet20
from pipeline.models.text_encoder import TextEncoder
from pipeline.quantization.bias_grid import biases_on_grid
from pipeline.quantization.functions_behind import functions_behind
from pipeline.quantization.insert import calibrated, point_name, watched
from pipeline.quantization.lowering import lowered_for
from pipeline.quantization.validator import refusals, rules_from_scheme
from pipeline.stages.export import onnx_of
from targets.engines.onnx_operators import products_quantized
from targets.engines.tensorrt_rtx import CAPABILITIES, CompiledAhead, compiled_ahead
from targets.engines.tensorrt_rtx_log import products_in_engine
from targets.runner import Operators
from targets.schemes import TENSORRT, TENSORRT_FLOAT16

CALIBRATED_WITH = 32  # inputs
SCHEMES = {"float32": TENSORRT, "float16": TENSORRT_FLOAT16}
WORDS = Clinc150(words=2500, length=20)
ENCODER = partial(TextEncoder, words=WORDS.words, length=WORDS.length, classes=150, depth=2, width=128)


@dataclass(frozen=True)
class Network:
    """One row.

    weights: the file to look for below --data; none for a network that nobody published
    noise: shape of an input, and the whole numbers below which it is drawn; 0 for normal ones
    """

    name: str
    factory: Callable[[], nn.Module]
    weights: str
    data: DataSource
    shape: tuple[int, ...]
    below: int = 0


NETWORKS = (
    Network("resnet20", resnet20, "resnet20-12fca82f.th", Cifar10(), (3, 32, 32)),
    Network("mobilenet_v1_025", mobilenet_v1_025, "mobilenet_v1_x0.25_fp32.safetensors", Photographs(), (3, 224, 224)),
    Network("mobilenet_v2", mobilenet_v2, "mobilenet_v2_from_tflite_int8.safetensors", Photographs(), (3, 224, 224)),
    Network("text_encoder", ENCODER, "", WORDS, (WORDS.length,), WORDS.words),
)  # fmt: skip


def main() -> None:
    """Print the table, and below it what was refused and every product that is float."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", type=Path)
    flags.add_argument("--networks", default=",".join(each.name for each in NETWORKS))
    flags.add_argument("--capabilities", default=",".join(map(str, CAPABILITIES)))
    asked = flags.parse_args()
    names, capabilities = asked.networks.split(","), [int(each) for each in asked.capabilities.split(",")]
    torch.manual_seed(0)
    heads = [f"{each / 10:.1f}" for each in capabilities]
    print(
        f"| network | weights, calibration | floats | quantized in the file | {' | '.join(heads)} | build s | plan kB |"
    )
    print("|---|---|---|---:|" + "---:|" * (len(heads) + 2))
    notes: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for network in NETWORKS:
            if network.name in names:
                for line, found in rows(network, asked.data, capabilities, folder=Path(folder)):
                    print(line, flush=True)
                    notes |= dict.fromkeys(found)
    print("\nRefused, or float in the engine:\n")
    print("\n".join(f"- {each}" for each in notes))


def rows(
    network: Network, data: Path | None, capabilities: list[int], *, folder: Path
) -> Iterator[tuple[str, list[str]]]:
    """The lines of the table, one for each kind of floats, and what is float there."""
    module, weights = with_weights(network, data)
    inputs, kind = some_inputs(network, data, cache=folder / "data")
    canonical = canonical_by_calibration(module, inputs)
    for floats, scheme in SCHEMES.items():
        path = folder / "lowered.onnx"
        lowered = lowered_for(canonical, scheme)
        written = products_quantized(lowered)
        row = f"| {network.name} | {weights}, {kind} | {floats} | {written.integer} of {len(written.rows)} | "
        said = refusals(lowered, rules_from_scheme(scheme))
        if said:
            note = f"{network.name}, {floats}: refused by our own validator before the compiler sees it: {said[0]}"
            yield row + "refused | " * len(capabilities) + "– | – |", [note]
            continue
        onnx.save(lowered, path)
        builds = [compiled_ahead(path, capabilities=(each,)) for each in capabilities]
        engines = [products_in_engine(written, each.layers) for each in builds]
        cells = [cell(*each) for each in zip(builds, engines, strict=True)]
        times = " to ".join(f"{end([each.build_s for each in builds]):.1f}" for end in (min, max))
        sizes = " to ".join(f"{end([each.plan_bytes for each in builds]) / 1e3:,.0f}" for end in (min, max))
        taken = [engine for build, engine in zip(builds, engines, strict=True) if build.accepted]
        notes = [note for engine in taken for note in notes_on(network, floats, written, engine)]
        yield f"{row}{' | '.join(cells)} | {times} | {sizes} |", notes


def cell(build: CompiledAhead, engine: Operators) -> str:
    """The share in integers, or who refused."""
    if not build.accepted:
        return f"refused: {build.refusals[0].node}"
    return f"{engine.integer} of {len(engine.rows)} ({100 * engine.integer / len(engine.rows):.0f} %)"


def notes_on(network: Network, floats: str, written: Operators, engine: Operators) -> Iterator[str]:
    """Every product that is float in the engine, and whose doing it is."""
    for ours, theirs in zip(written.rows, engine.rows, strict=True):
        if not theirs.integer:
            whose = (
                "**quantized in the file, float by the compiler**" if ours.integer else f"left float by us ({ours.why})"
            )
            yield f"{network.name}, {floats}: {ours.name} {whose}: {theirs.kind}"


def with_weights(network: Network, data: Path | None) -> tuple[nn.Module, str]:
    """The network, and where its weights are from."""
    module = network.factory().eval()
    try:
        path = find_file([network.weights], data, what=f"the weights of {network.name}") if network.weights else None
    except DataMissing:
        path = None
    if path is None:
        return module, "initial weights"
    load_state(module, state_from_file(path), path=path)
    return module, "published weights"


def some_inputs(network: Network, data: Path | None, *, cache: Path) -> tuple[np.ndarray, str]:
    """Inputs to calibrate with, and what they are."""
    random = np.random.default_rng(0)
    try:
        dataset = network.data(data, cache=cache)
    except DataMissing:
        shape = (CALIBRATED_WITH, *network.shape)
        drawn = random.integers(1, network.below, shape) if network.below else random.normal(size=shape)
        return drawn.astype(np.float32), f"{CALIBRATED_WITH} inputs of noise"
    places = np.sort(random.permutation(len(dataset.train.inputs))[:CALIBRATED_WITH])
    return inputs_for_network(dataset, dataset.train.inputs[places]), f"{len(places)} real inputs"


def canonical_by_calibration(module: nn.Module, inputs: np.ndarray) -> onnx.ModelProto:
    """The integer graph of a network that is calibrated and not trained, as the quantize and export stages make it."""
    graph, placement = watched(module)
    points = {point_name(each): MeanSquaredError() for each in placement.activations}
    ranges = observe(graph, Samples(inputs, "calibration"), points=points, behind=functions_behind(graph))
    student, _ = calibrated(graph, placement, ranges=ranges, scheme=TENSORRT)
    biases_on_grid(student.eval())
    return onnx_of(student, input_shape=inputs.shape[1:])


if __name__ == "__main__":
    main()
