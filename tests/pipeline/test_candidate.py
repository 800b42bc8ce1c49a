"""A candidate is a file and an architecture; each module made from it is one's own."""

import dataclasses
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.candidate import Candidate, Form, load_weights, save_tensors, save_weights
from pipeline.errors import CheckpointRefused
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.quantization.fake_quant import QuantizedWeight, activation_quantizer


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    save_weights(nn.Linear(3, 2), tmp_path / "weights.safetensors")
    path = tmp_path / "weights.safetensors"
    return Candidate("teacher", Form.TORCH, "d", path, architecture=partial(nn.Linear, 3, 2))


def test_2_modules_of_1_candidate_have_the_same_6_weights_and_share_none(candidate: Candidate) -> None:
    one, other = candidate.module(), candidate.module()
    assert isinstance(one, nn.Linear)
    assert isinstance(other, nn.Linear)
    assert torch.equal(one.weight, other.weight)
    before = candidate.path.read_bytes()
    with torch.no_grad():
        one.weight.zero_()
    assert bool(other.weight.ne(0).any())
    assert candidate.path.read_bytes() == before
    assert not one.training


def test_a_network_with_80_tensors_is_saved_and_loaded_to_the_last_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved, loaded = ResNetCifar(14, width=4).train(), ResNetCifar(14, width=4)
    saved(torch.randn(4, 3, 8, 8))  # moves the statistics and counters of the batch norms
    saved.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_weights(saved, tmp_path / "weights")
    load_weights(loaded, tmp_path / "weights")
    state = loaded.state_dict()
    assert len(state) == 80
    assert all(torch.equal(tensor, state[name]) for name, tensor in saved.state_dict().items())


def test_a_file_of_weights_is_no_pickle_and_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    save_weights(network, tmp_path / "one")
    save_weights(network, tmp_path / "two")
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    assert data[8:9] == b"{"  # safetensors: 8 bytes of length, then JSON; a pickle begins with 0x80 or PK


def test_2_names_of_1_shared_weight_are_both_kept(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    save_weights(network, tmp_path / "weights")
    load_weights(network, tmp_path / "weights")
    assert network[1].weight is network[0].weight


@pytest.mark.parametrize("kept", [0, 7, 20, -1])
def test_a_file_cut_after_0_7_20_or_all_but_1_bytes_is_refused(candidate: Candidate, kept: int) -> None:
    candidate.path.write_bytes(candidate.path.read_bytes()[:kept])
    with pytest.raises(CheckpointRefused, match="--fresh"):
        candidate.module()


def test_a_quantized_network_without_its_2_ranges_is_refused_by_their_names(tmp_path: Path) -> None:
    student = nn.Sequential(activation_quantizer(amax=1.0, unsigned=False), QuantizedWeight(nn.Linear(3, 2), bits=8))
    ranges = [name for name in student.state_dict() if name.endswith("amax")]
    assert len(ranges) == 2  # of the input and of the weight
    kept = {name: tensor for name, tensor in student.state_dict().items() if name not in ranges}
    save_tensors(kept, tmp_path / "weights")
    with pytest.raises(CheckpointRefused) as caught:
        load_weights(student, tmp_path / "weights")
    assert f"lacks 2 of the {len(student.state_dict())} weights and ranges" in str(caught.value)
    assert all(name in str(caught.value) for name in ranges)
    assert "--fresh" in str(caught.value)


def test_a_candidate_of_an_onnx_file_has_no_module(candidate: Candidate) -> None:
    onnx = Candidate("export", Form.ONNX, "e", candidate.path, parent=candidate)
    with pytest.raises(TypeError, match="onnx"):
        onnx.module()


def test_the_ancestry_of_the_third_candidate_has_3_members(candidate: Candidate) -> None:
    second = dataclasses.replace(candidate, stage="prune", parent=candidate)
    third = dataclasses.replace(candidate, stage="quantize", parent=second)
    assert [each.stage for each in third.ancestry()] == ["quantize", "prune", "teacher"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        third.stage = "other"  # type: ignore[misc]
