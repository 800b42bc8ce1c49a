"""Blocks of a gate over a real sshd on loopback, which goes away."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from targets.engines.block_there import BlocksThere
from targets.engines.elsewhere import Elsewhere
from targets.errors import DeviceLost
from targets.reach.device import connect


def test_2_processes_are_timed_over_ssh_and_the_3rd_is_lost_with_the_link(
    loopback_sshd: Any, float_onnx: Path, inputs: np.ndarray, tmp_path: Path
) -> None:
    with connect("board", config=loopback_sshd.config, patience_s=0) as device:
        engine, path = Elsewhere(device, settings={"processes": 2, "seconds": 0.01}), tmp_path / "a.engine.onnx"
        engine.build(float_onnx, path, threads=1)
        measure = BlocksThere(engine, (path, path), inputs[:1], 1)
        for seed in range(2):
            (sitting,) = measure(seed)
            assert [len(each) for each in sitting.wall_ms] == [len(sitting.wall_ms[0])] * 2
            assert len(sitting.wall_ms[0]) >= 9  # however slow an engine is
            assert min(map(min, sitting.wall_ms)) > 0
        assert {"before", "after", "clocks", "blocks"} <= set(measure.state())
        loopback_sshd.stop()
        with pytest.raises(DeviceLost, match="A gate has to begin anew") as caught:
            measure(2)
        assert "the same command" not in str(caught.value)
        assert len(measure.blocks) == 1
