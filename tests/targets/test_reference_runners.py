"""The runners that need no runtime: the torch module itself, and the one that answers zeros."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from targets.engines.eager import EagerRunner
from targets.engines.nothing import Nothing
from targets.errors import EngineFailed, EngineRefused


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def test_7_inputs_in_batches_of_3_are_answered_as_at_once_in_evaluation_mode() -> None:
    module = network()
    inputs = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    answers = EagerRunner(module, batch=3)(inputs)
    module.eval()
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    # The same sums of eight in another order: a few units in the last place of numbers near one.
    np.testing.assert_allclose(answers, expected, atol=1e-6, rtol=0)


def test_the_2_modes_of_a_module_and_its_numbers_are_left_as_they_were() -> None:
    module = network().train()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    threads = torch.get_num_threads()
    EagerRunner(module, threads=1)(np.ones((5, 4), np.float32))
    assert module.training
    assert not module[1].training
    assert module[3].training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert torch.get_num_threads() == threads


def test_inputs_of_5_features_for_a_network_of_4_are_refused_by_shape() -> None:
    with pytest.raises(EngineFailed, match=r"\(2, 5\)"):
        EagerRunner(network())(np.ones((2, 5), np.float32))
    with pytest.raises(EngineFailed, match="No input"):
        EagerRunner(network())(np.ones((0, 4), np.float32))


def test_the_engine_of_nothing_answers_10_zeros_for_each_of_6_inputs(float_onnx: Path, tmp_path: Path) -> None:
    engine = tmp_path / "engine.null.onnx"
    Nothing().build(float_onnx, engine, threads=1)
    answers = Nothing().open(engine, threads=1)(np.ones((6, 3, 8, 8), np.float32))
    assert answers.shape == (6, 10)
    assert answers.dtype == np.float32
    assert not answers.any()
    assert engine.read_bytes() == float_onnx.read_bytes()


def test_the_engine_of_nothing_still_refuses_a_file_of_3_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"abc")
    with pytest.raises(EngineRefused):
        Nothing().build(tmp_path / "model.onnx", tmp_path / "engine.null.onnx", threads=1)
    assert not (tmp_path / "engine.null.onnx").exists()
