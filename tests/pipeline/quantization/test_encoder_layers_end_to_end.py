"""An encoder of torch's own layers, as an engineer writes it, quantized, exported and built."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.data.dataset import Dataset


class Plain(nn.Module):
    """Rows of 8×8 points as 8 tokens, nn.TransformerEncoder over them, which sees what came before alone."""

    def __init__(self, *, batch_first: bool, norm_first: bool) -> None:
        super().__init__()
        self.first, self.batch_first = nn.Linear(8, 16), batch_first
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.register_buffer("ahead", nn.Transformer.generate_square_subsequent_mask(8))
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.reshape(-1, 8, 8))  # (N, T, E)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1), self.ahead)
        return self.last(x.mean(1 if self.batch_first else 0))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("batch_first", "norm_first"), [(True, True), (False, False)])
def test_an_encoder_of_2_of_torchs_layers_has_13_integer_products_and_answers_as_torch_does(
    batch_first: bool, norm_first: bool, way_of: Callable[..., Any], tiny_data: Callable[..., Dataset]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        way = way_of(lambda: Plain(batch_first=batch_first, norm_first=norm_first), data=tiny_data((64,)))
    assert way.built.facts["operators"]["integer"] == 1 + 2 * 6
    # Roundings of torch and of the engine differ at the middle between two codes: one step, of 255, in few places.
    assert np.abs(way.engine - way.fake).max() < 0.02 * np.abs(way.fake).max()
    # 8 bits of 13 layers with random weights.
    assert np.abs(way.fake - way.whole).max() < 0.2 * np.abs(way.whole).max()
