"""From a file of weights to a network that has them, without running anything that the file contains.

Read are safetensors files and files of torch.save, the latter with `weights_only=True`: a pickle is a program, and only
the part of it that builds tensors is carried out. What a training script wrote around the weights is taken off: an
outer dictionary (`state_dict`, `model`, …), and the prefixes of wrappers (`module.`, `_orig_mod.`).

A pruned network is kept as weights only; `fit_module_to_state` narrows a fresh network until they fit.

Letters: I input channels, O output channels, G groups.
"""

import argparse
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointRefused

# Where training scripts put the weights. The trained ones come before their running average (ema).
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module",
            "ema_state_dict", "model_ema", "ema")  # fmt: skip
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
SHOWN = 5  # names of each kind in a message

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS_BY_FEATURE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
                    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)  # fmt: skip


def state_from_file(path: Path) -> dict[str, Tensor]:
    """The weights in the file at `path`, on the CPU, by name."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointRefused(f"{path} cannot be read ({error.strerror}). Name a file of weights.") from error
    if not start:
        raise CheckpointRefused(f"{path} is empty. Save or copy the weights again.")
    content = _from_safetensors(path) if start[8:] == b"{" else _from_torch(path)
    state = _weights_within(content)
    if state is None:
        found = sorted(map(str, content)) if isinstance(content, Mapping) else [type(content).__name__]
        raise CheckpointRefused(
            f"{path} holds no weights by name; it holds: {_some(found)}. Save them with "
            "torch.save(network.state_dict(), path)."
        )
    state = _without_prefixes(state)
    wrong = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong:
        raise CheckpointRefused(
            f"{path}: NaN or infinity in {_some(wrong)}. Take a checkpoint from before it diverged."
        )
    return state


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, path: Path | None) -> None:
    """Give `module` the weights of `state`; every name and shape must fit. `path` is for the message, if there is one.

    Batch norm's count of batches may be absent: files from before it existed lack it, and nothing here reads it.
    """
    own = module.state_dict()
    state = _without_common_prefix(state, own)
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    complaints = [
        f"{len(names)} {kind}: {_some(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if complaints:
        raise CheckpointRefused(
            f"{path or 'the state that was given'} does not fit {type(module).__name__}. {'; '.join(complaints)}. "
            "Name the checkpoint of this network, or the network of this checkpoint."
        )
    with torch.no_grad():
        module.load_state_dict(dict(state), strict=False)


def fit_module_to_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Narrow every layer of `module`, in place, whose weights in `state` are narrower; the values are not loaded.

    So a network whose channels were pruned is built again from its unpruned factory. A weight that is wider in `state`
    than in the network belongs to another network, and is left for `load_state` to refuse. A weight that two layers
    share stays shared.
    """
    replaced: dict[int, nn.Parameter] = {}
    for prefix, layer in module.named_modules(remove_duplicate=True):
        before = {name: tuple(tensor.shape) for name, tensor in _own(layer).items()}
        for name, tensor in _own(layer).items():
            wanted = state.get(f"{prefix}.{name}" if prefix else name)
            if wanted is not None and _narrower(wanted, tensor, layer):
                _replace(layer, name, tensor, wanted, replaced)
        if before != {name: tuple(tensor.shape) for name, tensor in _own(layer).items()}:
            _set_sizes(layer, before)


def _from_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointRefused(f"{path} is cut short or damaged ({error}). Save or copy it again.") from error


def _from_torch(path: Path) -> Any:
    # Figures such as the best accuracy are often NumPy's, and settings an argparse.Namespace: both are plain data.
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    plain: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        argparse.Namespace,
        *kinds,
    ]
    try:
        with torch.serialization.safe_globals(plain), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise CheckpointRefused(f"{path} is no file of weights, or is damaged. Save or copy it again.") from error
        raise CheckpointRefused(
            f"{path} holds more than weights: it would run {named[1].rstrip('.,')} when opened, so it is not "
            "opened. Load it where it was made and save torch.save(network.state_dict(), path)."
        ) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise CheckpointRefused(
                f"{path} is a TorchScript program. Load it with torch.jit.load and save its state_dict() instead."
            ) from error
        raise CheckpointRefused(f"{path} is cut short or damaged. Save or copy it again.") from error
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointRefused(f"{path} is cut short or damaged ({error!r}). Save or copy it again.") from error


def _weights_within(content: Any, *, depth: int = 0) -> dict[str, Tensor] | None:
    """The weights in `content` or in a dictionary inside it; None if there are none."""
    if not isinstance(content, Mapping) or depth > 3:
        return None
    inner = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Mapping)}
    for key in (*WRAPPERS, *inner):
        if key in inner and key != "optimizer":
            state = _weights_within(inner[key], depth=depth + 1)
            if state:
                return state
    state = {
        key: value.detach() for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    return state or None


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:  # one wrapper inside the other, either way round
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _without_common_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`state` without the attribute a training wrapper kept the network in (`net.conv1` → `conv1`), if then it fits."""
    prefixes = {name.split(".", 1)[0] for name in state}
    if len(prefixes) != 1 or any(name in own for name in state):
        return state
    short = {name.split(".", 1)[-1]: tensor for name, tensor in state.items()}
    return short if any(name in own for name in short) else state


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _own(layer: nn.Module) -> dict[str, Tensor]:
    return {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}


def _narrower(wanted: Tensor, tensor: Tensor, layer: nn.Module) -> bool:
    """Nowhere wider and somewhere narrower, and not in the kernel of a convolution."""
    if wanted.shape == tensor.shape or wanted.dim() != tensor.dim():
        return False
    if isinstance(layer, CONVOLUTIONS + TRANSPOSED) and wanted.shape[2:] != tensor.shape[2:]:
        return False
    return all(0 < new <= old for new, old in zip(wanted.shape, tensor.shape, strict=True))


def _replace(layer: nn.Module, name: str, tensor: Tensor, wanted: Tensor, replaced: dict[int, nn.Parameter]) -> None:
    empty = tensor.detach().new_zeros(wanted.shape)
    if not isinstance(tensor, nn.Parameter):
        setattr(layer, name, empty)
        return
    if id(tensor) not in replaced:
        replaced[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad)
    setattr(layer, name, replaced[id(tensor)])


def _set_sizes(layer: Any, before: Mapping[str, tuple[int, ...]]) -> None:
    """Make the numbers that a layer keeps about itself agree with its weights."""
    if isinstance(layer, CONVOLUTIONS):
        outputs, inputs_per_group = layer.weight.shape[:2]  # weight (O, I / G, …)
        if layer.groups == layer.in_channels and layer.groups > 1:  # depthwise: the groups go with the channels
            layer.groups = outputs // (before["weight"][0] // layer.groups)
        layer.out_channels, layer.in_channels = outputs, inputs_per_group * layer.groups
    elif isinstance(layer, TRANSPOSED):
        inputs, outputs_per_group = layer.weight.shape[:2]  # weight (I, O / G, …)
        if layer.groups == layer.in_channels and layer.groups > 1:
            layer.groups = inputs
        layer.in_channels, layer.out_channels = inputs, outputs_per_group * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.Embedding):
        layer.num_embeddings, layer.embedding_dim = layer.weight.shape
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.shape[0]
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = layer.weight.shape[0]
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, NORMS_BY_FEATURE):
        layer.num_features = next(iter(_own(layer).values())).shape[0]
