"""The processes that train together: one, several on this machine, or several hosts under `torchrun`.

Lightning Fabric starts them, gives each its rank and averages their gradients. Process 0 measures, writes and prints;
the others follow it from stage to stage. All of them read and write the same `--out`, so hosts share that folder.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PeerLost, UsageRefused

# How the transports say that the other end is gone; all of them say it with a RuntimeError.
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Socket closed", "ncclRemoteError", "gloo")


@dataclass(frozen=True)
class Workers:
    """A handle on the processes of one run."""

    fabric: Any

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return int(self.fabric.global_rank)

    @property
    def count(self) -> int:
        """How many processes train together."""
        return int(self.fabric.world_size)

    @property
    def leads(self) -> bool:
        """Whether this is process 0, the one that measures, writes and prints."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process trains."""
        return torch.device(self.fabric.device)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            self.fabric.barrier()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of every process's `value`, in every process."""
        if self.count == 1:
            return value
        mean: Tensor = self.fabric.all_reduce(value, reduce_op="mean")
        return mean

    @contextmanager
    def together(self) -> Iterator[None]:
        """What all processes do in step.

        Raises:
            PeerLost: one of the others has stopped, so that this one cannot go on.
        """
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not any(sign in str(error) for sign in PEER_LOST):
                raise
            raise PeerLost(
                f"process {self.rank} of {self.count} has lost another one, which has stopped; what that one printed "
                "says why. Finished stages and the last checkpoint are kept; the same command goes on."
            ) from error

    def from_leader(self, value: Any) -> Any:
        """The leader's `value` in every process."""
        return self.fabric.broadcast(value, src=0) if self.count > 1 else value


def start_workers(*, devices: int, hosts: int, threads: int) -> Workers:
    """Start the processes; returns in each of them.

    devices: processes on this machine, each on its own GPU where there are GPUs · hosts: machines under `torchrun`
    threads: CPU threads of the whole machine, shared out among its processes

    Raises:
        UsageRefused: more processes asked for than there are GPUs.
    """
    gpus = torch.cuda.device_count()
    if gpus and devices > gpus:
        raise UsageRefused(f"--devices {devices}, but this machine has {gpus} GPU(s). Ask for {gpus} at the most.")
    torch.set_num_threads(max(1, threads // devices))
    torch.set_flush_denormal(True)  # momentum that fades to denormal numbers made steps many times slower
    from lightning_fabric import Fabric  # two seconds, which a refused command and a dry run need not wait

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its greetings are not this program's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice for notebooks and clusters, not for this program's user
        fabric = Fabric(
            accelerator="gpu" if gpus else "cpu",
            devices=devices,
            num_nodes=hosts,
            strategy="ddp" if devices * hosts > 1 else "auto",
            precision=precision(),
        )
        fabric.launch()
    return Workers(fabric)


def precision() -> str:
    """bfloat16 where the device multiplies it in hardware, float32 elsewhere."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"
