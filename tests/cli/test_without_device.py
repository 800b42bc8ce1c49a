"""`compress --target jetson-orin` on another machine: exit code 3, a whole bundle, and what is missing in words."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from pipeline.commands.list_targets import list_targets

SAID = "not measured on jetson-orin: no device was given"


def test_without_the_device_3_budgets_stay_undecided_and_the_exit_code_is_3(
    again: Any, quick: Any, tmp_path: Path
) -> None:
    ended = again("--target", "jetson-orin")
    assert ended.exit_code == 3, ended.stderr
    assert SAID in ended.stderr
    told = ended.told
    assert [stage["name"] for stage in told["stages"]][-1] == "build"
    assert all(stage["accuracy"] is not None and stage["latency_p99_ms"] is None for stage in told["stages"])
    assert {stage["reasons"]["latency"] for stage in told["stages"]} == {SAID}
    verdicts = {verdict["limit"]: verdict for verdict in told["verdicts"]}
    assert {verdict["verdict"] for verdict in verdicts.values()} == {"undecided"}
    assert verdicts["max_latency_ms"]["why"] == SAID
    assert verdicts["min_speedup"]["why"] == SAID
    assert verdicts["max_accuracy_drop_points"]["measured"] is not None

    bundle = Path(told["bundle"])
    for name in ("model.onnx", "lowered.onnx"):
        onnx.checker.check_model(onnx.load(bundle / name), full_check=True)
    assert not list(bundle.glob("engine.*"))
    assert "No engine was built: jetson-orin was not here." in (bundle / "report.md").read_text()
    checked = quick("verify", str(bundle), "--json", cwd=tmp_path)
    assert checked.exit_code == 3, checked.stderr
    assert (checked.told["asked"], checked.told["is_the_engine"]) == ("model.onnx", False)
    assert any("opened on that device only" in remark for remark in checked.told["remarks"])


def test_the_list_has_1_line_for_each_target_and_1_target_has_each_figure_with_its_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list_targets([]) == 0
    listed = capsys.readouterr().out.splitlines()
    (orin,) = [line.split(maxsplit=2) for line in listed if line.startswith("jetson-orin ")]
    assert orin == ["jetson-orin", "no", "Jetson AGX Orin, 64 and 32 GB, TensorRT"]
    assert list_targets(["jetson-orin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    sources = {line.split()[0]: line for line in lines[lines.index("sources") + 1 :]}
    (int8, _) = [line for line in lines if "INT8, dense" in line]
    assert "85.2 TOPS" in int8
    assert "16 multiprocessors × 1300 MHz" in sources[int8.split()[-1]]
    (mode, _) = [line for line in lines if "30W, the preset" in line]
    assert "module p3701-0000" in sources[mode.split()[-1]]
    (release,) = [line for line in lines if "JetPack 6.1" in line]
    assert "TensorRT 10.3.0, reads ONNX operator sets up to 20" in release
    assert list_targets(["nvidia-h200"]) == 0
    assert "no source was found for: int8 of NVIDIA H200 SXM, fp32 of NVIDIA H200 SXM" in capsys.readouterr().out
