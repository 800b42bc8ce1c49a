"""How long calibration takes beside the forward passes that it cannot do without.

python tools/calibration_time.py --data DIR        a ResNet-18 at 224×224 and up to 500 photographs, for each observer
                                                   the time of `observe` over that of the same forward passes, in turns
                                                   (goal: at most 1.2), and by how much its memory grows from the first
                                                   quarter of the photographs to all of them

The photographs are those below DIR that the recipe `mobilenet-v1-photographs` reads; weights are random, and the
quantizers' places are those that the quantize stage would choose.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from calibration.observe import Observer, observe
from calibration.observers.entropy import Entropy
from calibration.observers.minmax import MinMax
from calibration.observers.mse import MeanSquaredError
from calibration.observers.percentile import Percentile
from calibration.samples import Samples
from pipeline.data.dataset import inputs_for_network
from pipeline.kept_memory import keep_freed_memory
from pipeline.quantization.functions_behind import functions_behind
from pipeline.quantization.insert import point_name, watched
from pipeline.recipes.mobilenet_v1_photographs import RECIPE
from targets.stopwatch import now_s

OBSERVERS: dict[str, Observer] = {
    "minmax": MinMax(), "percentile": Percentile(), "entropy": Entropy(), "mse": MeanSquaredError(),
}  # fmt: skip
BATCH = 16


class Block(nn.Module):
    """Two convolutions and a shortcut. He et al. 2015, arXiv:1512.03385, figure 2."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out))
        self.shortcut = nn.Sequential()
        if stride != 1 or width != out:
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.last = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.last(self.second(self.first(inputs)) + self.shortcut(inputs))
        return result


def resnet18() -> nn.Module:
    """The network of the paper's table 1, with random weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    width = 64
    for out in (64, 128, 256, 512):
        layers += [Block(width, out, 1 if out == width else 2), Block(out, out, 1)]
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)).eval()


def main() -> None:
    """Print a line per observer."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", type=Path, required=True)
    flags.add_argument("--photographs", type=int, default=500)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--threads", type=int, default=torch.get_num_threads())
    flags.add_argument("--peak-of", choices=tuple(OBSERVERS), help="one pass, and the process's peak memory as JSON")
    asked = flags.parse_args()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(asked.threads)
    photographs = Samples(some_photographs(asked.data, asked.photographs), "photographs")
    if asked.peak_of:
        calibrate(photographs, OBSERVERS[asked.peak_of])()
        print(json.dumps({"peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
        return
    print(f"{len(photographs)} photographs, {asked.threads} threads, {asked.rounds} rounds")
    forward = passes(photographs)
    for name, observer in OBSERVERS.items():
        ratios = [in_turns(calibrate(photographs, observer), forward, place) for place in range(asked.rounds)]
        few, all_of_them = (peak(name, asked.data, count) for count in (len(photographs) // 4, len(photographs)))
        more = len(photographs) - len(photographs) // 4
        grown = all_of_them - few - more * 4 * 3 * 224 * 224 / 2**20  # the photographs are part of the process
        print(f"{name:12s} {statistics.median(ratios):6.3f} of the forward passes ({min(ratios):.3f} to "
              f"{max(ratios):.3f}); {grown:+.0f} MiB for four times as many photographs")  # fmt: skip


def some_photographs(data: Path, count: int) -> np.ndarray:
    """As a network takes them, (N, 3, 224, 224)."""
    with tempfile.TemporaryDirectory() as cache:
        dataset = RECIPE.data(data, cache=Path(cache))
    splits = (dataset.train, dataset.validation, dataset.test)
    inputs = np.concatenate([split.inputs for split in splits])[:count]
    return np.asarray(inputs_for_network(dataset, inputs))


def calibrate(photographs: Samples, observer: Observer) -> Callable[[], None]:
    """One calibration of a network that has not been seen before."""
    graph, placement = watched(resnet18())
    points = {point_name(each): observer for each in placement.activations}
    behind = functions_behind(graph)

    def once() -> None:
        observe(graph, photographs, points=points, batch=BATCH, affine=True, behind=behind)

    return once


def passes(photographs: Samples) -> Callable[[], None]:
    """The forward passes of the same network, folded as it is for calibration, and nothing else."""
    graph, _ = watched(resnet18())

    @torch.no_grad()
    def once() -> None:
        for inputs in photographs.batches(BATCH):
            graph(inputs)

    return once


def in_turns(calibration: Callable[[], None], forward: Callable[[], None], place: int) -> float:
    """The time of one over that of the other, in an order that alternates."""
    seconds = {}
    for call in (calibration, forward) if place % 2 else (forward, calibration):
        began = now_s()
        call()
        seconds[call] = now_s() - began
    return seconds[calibration] / seconds[forward]


def peak(observer: str, data: Path, photographs: int) -> float:
    """MiB of a process of its own that calibrates with so many."""
    command = [sys.executable, __file__, "--data", str(data), "--photographs", str(photographs), "--peak-of", observer]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(told)["peak"]) / 2**20


if __name__ == "__main__":
    main()
