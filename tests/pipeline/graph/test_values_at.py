"""What quantizers give, also where the batch is not the first axis: between the transposes of a channel shuffle."""

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.graph.first_difference import values_at


class Shuffled(nn.Module):
    """(N, 6) → its two halves as (2, N, 3), watched there, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        halves: Tensor = self.point(inputs.reshape(-1, 2, 3).transpose(0, 1))
        return halves.transpose(0, 1).reshape(-1, 6)


def test_2_halves_of_3_inputs_lie_input_by_input_as_an_engine_of_batch_1_gives_them() -> None:
    network, inputs = Shuffled(), np.arange(18, dtype=np.float32).reshape(3, 6)
    (seen,) = values_at(network, lambda module: module is network.point, inputs)
    assert seen.shape == (2 * 3, 1, 3)
    with torch.no_grad():
        alone = [network.point(torch.from_numpy(row[None]).reshape(-1, 2, 3).transpose(0, 1)).numpy() for row in inputs]
    np.testing.assert_array_equal(seen, np.concatenate(alone))
    assert seen[2].tolist() == [[6, 7, 8]]  # the first half of the second input
