"""The text encoder: by count, against torch's own encoder layer, and what padding must not change."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.graph.onnx_from_torch import onnx_from_torch
from pipeline.models.text_encoder import TextEncoder
from pipeline.stages.export import answers_of_onnx

Norm = Literal["pre", "post"]


def small(norm: Norm = "pre") -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(words=30, classes=5, length=8, depth=2, width=16, heads=2, norm=norm).eval()


def texts(count: int = 6) -> Tensor:
    """Ids of texts with 1 … 8 words."""
    random = np.random.default_rng(0)
    ids = random.integers(1, 30, (count, 8))
    for row, words in enumerate(random.integers(1, 9, count)):
        ids[row, words:] = 0
    return torch.from_numpy(ids.astype(np.float32))


def test_an_encoder_of_2_blocks_of_16_has_7285_weights() -> None:
    attention, forward, norms = 4 * (16 * 16 + 16), 16 * 64 + 64 + 64 * 16 + 16, 2 * 2 * 16
    expected = 30 * 16 + 8 * 16 + 2 * (attention + forward + norms) + 2 * 16 + 16 * 5 + 5
    assert expected == 7285 == sum(parameter.numel() for parameter in small().parameters())


def as_in_torch(network: TextEncoder, ids: Tensor, norm: Norm) -> Tensor:
    """The same weights in nn.TransformerEncoderLayer, whose attention is another program."""
    x = network.first_norm(network.token(ids.long()) + network.position)
    for block in network.blocks:
        own: dict[str, Tensor] = dict(block.named_parameters())
        layer = nn.TransformerEncoderLayer(16, 2, 64, activation="gelu", batch_first=True, norm_first=norm == "pre")
        attention = [
            own[f"attention.{name}.{kind}"] for kind in ("weight", "bias") for name in ("query", "key", "value")
        ]
        state = {
            "self_attn.in_proj_weight": torch.cat(attention[:3]), "self_attn.in_proj_bias": torch.cat(attention[3:]),
        }  # fmt: skip
        for theirs, ours in (("self_attn.out_proj", "attention.output"), ("linear1", "widen"), ("linear2", "narrow"), (
            "norm1", "norm1"), ("norm2", "norm2")):  # fmt: skip
            state |= {f"{theirs}.{kind}": own[f"{ours}.{kind}"] for kind in ("weight", "bias")}
        layer.load_state_dict(state)
        x = layer.eval()(x, src_key_padding_mask=ids == 0)
    x = network.last_norm(x)
    means = [row[: int((one != 0).sum())].mean(0) for row, one in zip(x, ids, strict=True)]
    answers: Tensor = network.head(torch.stack(means))
    return answers


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_6_texts_are_answered_as_by_torchs_own_encoder_layer(norm: Norm) -> None:
    network, ids = small(norm), texts()
    # Sums of 64 products in float32 in another order: 2e-6 was seen.
    assert torch.allclose(network(ids), as_in_torch(network, ids, norm), atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_5_places_behind_a_text_of_3_words_have_no_say(norm: Norm) -> None:
    network, ids = small(norm), torch.tensor([[4.0, 9, 2, 0, 0, 0, 0, 0]])
    before = network(ids)
    with torch.no_grad():
        network.position[:, 3:] += torch.randn(5, 16)
        network.token.weight[0] += 1.0
    assert torch.allclose(network(ids), before, atol=1e-6)  # e^−10000 is 0: no more than the order of sums
    with torch.no_grad():
        network.position[:, :3] += torch.randn(3, 16)
    assert not torch.allclose(network(ids), before, atol=1e-3)


def test_a_text_of_0_words_is_answered_with_numbers() -> None:
    assert bool(small()(torch.zeros(1, 8)).isfinite().all())


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_its_trace_and_its_onnx_file_give_the_same_answers_to_6_texts(norm: Norm, tmp_path: Path) -> None:
    network, ids = small(norm), texts()
    traced = fx.symbolic_trace(network)
    assert sum(node.target is torch.matmul for node in traced.graph.nodes) == 2 * 2  # they are seen
    assert torch.equal(traced(ids), network(ids))
    path = tmp_path / "encoder.onnx"
    onnx.save(onnx_from_torch(network, input_shape=(8,)), path)
    with torch.no_grad():
        expected = network(ids).numpy()
    assert np.allclose(answers_of_onnx(path, ids.numpy()), expected, atol=1e-5)  # float32 sums in another order


def test_a_width_of_16_cannot_be_dealt_out_to_3_heads() -> None:
    with pytest.raises(ValueError, match="3 heads"):
        TextEncoder(words=30, classes=5, width=16, heads=3)
