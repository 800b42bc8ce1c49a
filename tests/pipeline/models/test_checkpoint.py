"""Files of weights: what is read, what is refused, and how a pruned network is built again."""

import argparse
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointRefused
from pipeline.models.checkpoint import fit_module_to_state, load_state, state_from_file
from pipeline.models.convnet import ConvNet


def network(*, seed: int = 0) -> ConvNet:
    torch.manual_seed(seed)
    return ConvNet(width=4)


STATE = network().state_dict()
WRAPPED = [
    STATE,
    {"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}, "epoch": 3, "best": np.float64(0.9)},
    {"model_state_dict": STATE, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    {"epoch": 1, "model": {"state_dict": {f"_orig_mod.module.{n}": t for n, t in STATE.items()}}},
    {"ema": {n: t + 1 for n, t in STATE.items()}, "net": STATE, "args": argparse.Namespace(lr=0.1)},
    {"my_own_name": STATE, "accuracy": np.float32(0.5)},
]


@pytest.mark.parametrize("case", range(len(WRAPPED)))
def test_6_ways_of_wrapping_give_the_same_weights(tmp_path: Path, case: int) -> None:
    torch.save(WRAPPED[case], tmp_path / "w.pt")
    state = state_from_file(tmp_path / "w.pt")
    assert list(state) == list(STATE)
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_safetensors_are_known_by_their_first_9_bytes_and_not_by_name(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(STATE, tmp_path / name)
    assert torch.equal(state_from_file(tmp_path / name)["linear.weight"], STATE["linear.weight"])


def test_the_file_format_from_before_torch_1_6_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.th", _use_new_zipfile_serialization=False)
    assert state_from_file(tmp_path / "w.th").keys() == STATE.keys()


def test_tensors_that_say_cuda_0_are_read_on_a_machine_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # what torch.save writes beside the bytes of a tensor on the first GPU
        patch.setattr("torch.serialization.location_tag", lambda _storage: "cuda:0")
        torch.save({"state_dict": STATE}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as file:
        assert b"cuda:0" in file.read("w/data.pkl")
    state = state_from_file(tmp_path / "w.pt")
    assert {tensor.device.type for tensor in state.values()} == {"cpu"}
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harm-was-done",)


def test_1_function_call_in_a_file_is_refused_by_its_name_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "x": Harmful()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointRefused, match=r"would run (posix|nt)\.system"):
        state_from_file(tmp_path / "w.pt")
    assert not (tmp_path / "harm-was-done").exists()


def test_a_whole_pickled_module_is_refused_with_1_line_to_run_instead(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pt")
    with pytest.raises(CheckpointRefused, match=r"ConvNet .*save torch\.save\(network\.state_dict\(\), path\)"):
        state_from_file(tmp_path / "w.pt")


@pytest.mark.parametrize("keep", [5, 300, 0.5, 0.98])
@pytest.mark.parametrize("kind", ["torch", "old torch", "safetensors"])
def test_a_file_cut_at_4_places_is_refused_by_name(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / "cut.bin"
    if kind == "safetensors":
        safetensors.torch.save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "torch")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(CheckpointRefused, match=r"cut\.bin (is cut short|is no file of weights)"):
        state_from_file(path)


def test_no_file_an_empty_one_a_folder_and_a_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("version https://git-lfs.github.com/spec/v1")
    for name in ("none", "empty", "folder", "text"):
        with pytest.raises(CheckpointRefused, match=name):
            state_from_file(tmp_path / name)


def test_a_file_with_2_entries_and_no_weights_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "w.pt")
    with pytest.raises(CheckpointRefused, match="it holds: epoch, loss"):
        state_from_file(tmp_path / "w.pt")


def test_1_nan_among_the_weights_is_named(tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in STATE.items()}
    state["conv2.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointRefused, match=r"NaN or infinity in conv2\.weight"):
        state_from_file(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit itself
def test_a_torchscript_program_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "w.pt"))
    with pytest.raises(CheckpointRefused, match=r"TorchScript program.*state_dict"):
        state_from_file(tmp_path / "w.pt")


def test_weights_load_with_a_wrapper_s_attribute_before_each_name_and_without_batch_counts() -> None:
    state = {f"net.{name}": t for name, t in STATE.items() if not name.endswith("num_batches_tracked")}
    fresh = network(seed=1)
    load_state(fresh, state, path=Path("w.pt"))
    assert all(torch.equal(fresh.state_dict()[name], STATE[name]) for name in STATE)


def test_3_kinds_of_misfit_are_told_with_5_names_and_shapes() -> None:
    state: dict[str, Tensor] = {name: tensor for name, tensor in STATE.items() if not name.startswith("bn")}
    state["linear.weight"] = torch.zeros(7, 16)
    state["extra"] = torch.zeros(1)
    with pytest.raises(CheckpointRefused) as refusal:
        load_state(network(), state, path=Path("w.pt"))
    message = str(refusal.value)
    assert message.startswith("w.pt does not fit ConvNet. 12 missing: bn1.weight, bn1.bias, bn1.running_mean,")
    assert "and 7 more; 1 unexpected: extra; 1 of another shape: linear.weight (7, 16) for (10, 16)." in message


class Every(nn.Module):
    """One layer of every kind that channels run through."""

    def __init__(self, *, hidden: int, vocabulary: int = 9) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.conv1d = nn.Conv1d(hidden, 2 * hidden, 3, padding=1)
        self.depthwise = nn.Conv1d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.multiplied = nn.Conv1d(2 * hidden, 4 * hidden, 1, groups=2 * hidden)
        self.grouped = nn.Conv1d(4 * hidden, 4 * hidden, 1, groups=2)
        self.group_norm = nn.GroupNorm(2, 4 * hidden)
        self.prelu = nn.PReLU(4 * hidden)
        self.transposed = nn.ConvTranspose1d(4 * hidden, hidden, 2, stride=2)
        self.transposed_depthwise = nn.ConvTranspose1d(hidden, hidden, 2, stride=2, groups=hidden)
        self.batch_norm = nn.BatchNorm1d(hidden)
        self.layer_norm = nn.LayerNorm(hidden)
        self.gain = nn.Parameter(torch.rand(hidden))
        self.linear = nn.Linear(hidden, vocabulary, bias=False)
        self.linear.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.embedding(words).transpose(1, 2)
        x = self.multiplied(self.depthwise(self.conv1d(x)))
        x = self.prelu(self.group_norm(self.grouped(x)))
        x = self.batch_norm(self.transposed_depthwise(self.transposed(x)))
        answer: Tensor = self.linear(self.layer_norm(x.mean(2)) * self.gain)
        return answer


def test_a_network_of_hidden_8_takes_the_weights_of_hidden_6_and_answers_as_it_does() -> None:
    torch.manual_seed(0)
    pruned, wide = Every(hidden=6).eval(), Every(hidden=8).eval()
    fit_module_to_state(wide, pruned.state_dict())
    load_state(wide, pruned.state_dict(), path=Path("w.pt"))
    words = torch.arange(9).reshape(3, 3)
    assert torch.equal(wide(words), pruned(words))
    assert repr(wide) == repr(pruned)
    assert wide.linear.weight is wide.embedding.weight


def test_a_network_of_hidden_6_does_not_grow_to_8() -> None:
    narrow = Every(hidden=6)
    before = {name: tensor.shape for name, tensor in narrow.state_dict().items()}
    fit_module_to_state(narrow, Every(hidden=8).state_dict())
    assert {name: tensor.shape for name, tensor in narrow.state_dict().items()} == before


def test_a_kernel_of_1_does_not_take_the_place_of_one_of_3() -> None:
    layer = nn.Conv2d(4, 4, 3)
    fit_module_to_state(layer, nn.Conv2d(4, 4, 1).state_dict())
    assert layer.weight.shape == (4, 4, 3, 3)
