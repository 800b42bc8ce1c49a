"""What a device says of itself: this machine, and a stand-in Jetson."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets.on_device import facts as facts_file
from targets.on_device import runtimes_here
from targets.on_device.facts import cpu_name, facts, features_in, memory_bytes
from targets.on_device.jetson import l4t_release, module_number
from targets.on_device.nvidia_smi import gpu_from_line, held_down_by
from targets.on_device.runtimes_here import banner_version, cuda_here, library_version, probed
from targets.reach import local

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_2_lists_of_features_are_one() -> None:
    assert facts_file.FEATURES_OF_INTEREST == local.FEATURES_OF_INTEREST


def test_1_cpuinfo_is_read_alike_here_and_there() -> None:
    x86 = "model name\t: AMD EPYC\nflags\t\t: fpu avx2 fma avx512_vnni\n"
    arm = "CPU implementer\t: 0x41\nCPU part\t: 0xd42\nFeatures\t: fp asimd asimddp\n"
    for text in (x86, arm, ""):
        assert tuple(features_in(text)) == local.features_in(text)
    assert cpu_name(x86) == "AMD EPYC"
    assert cpu_name(arm) == "Cortex-A78AE"


def test_this_machine_says_of_itself_what_the_other_side_reads(tmp_path: Path) -> None:
    found, machine = facts({}, tmp_path), local.describe_machine()
    assert json.loads(json.dumps(found)) == found
    assert (found["architecture"], found["hostname"], found["cores"]) == (
        machine.architecture, machine.name, machine.cores,
    )  # fmt: skip
    assert tuple(found["cpu_features"]) == machine.cpu_features
    assert found["memory_bytes"] == machine.memory_bytes
    assert found["disk_free_bytes"] > 0
    assert found["clocks_left_locked"] is False


def test_1_kb_of_the_kernel_is_1024_bytes() -> None:
    assert memory_bytes("MemTotal:        7665672 kB\n") == 7665672 * 1024


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "36.4.3"),
        ("# R35 (release), REVISION: 5.0, GCID: 35550185, BOARD: t186ref", "35.5.0"),
        ("# R39 (release), REVISION: 2, BOARD: generic", "39.2.0"),
        ("nothing of the kind", None),
    ],
)
def test_the_release_has_3_numbers(line: str, release: str | None) -> None:
    assert l4t_release(line) == release


def test_of_2_part_numbers_the_modules_own_is_taken() -> None:
    assert module_number("nvidia,p3768-0000+p3767-0005-super nvidia,tegra234") == "p3767-0005"
    assert module_number("tegra234-p3701-0005-p3737-0000.dtb") == "p3701-0005"
    assert module_number("raspberrypi,5-model-b") is None


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b17] # trtexec --help", "10.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --help", "8.5.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101602] # trtexec", "10.16.2"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v110401] # trtexec", "11.4.1"),
        ("trtexec: error while loading shared libraries: libnvinfer.so.10", None),
    ],
)
def test_a_banner_of_4_or_6_digits_names_the_version(banner: str, version: str | None) -> None:
    assert banner_version(banner) == version


def test_a_stand_in_orin_nano_is_known_by_15_facts(
    stand_in_jetson: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = stand_in_jetson(mode="25W")
    monkeypatch.setenv("PATH", device.search_path)
    found = facts({"root": str(device.root)}, tmp_path)
    jetson = found["jetson"]
    assert "stand-in" in jetson["board"]
    assert (jetson["sku"], jetson["module"]) == ("p3767-0003", "Jetson Orin Nano 8GB")
    assert (jetson["l4t"], jetson["jetpack"]) == ("36.4.3", "6.2")
    assert jetson["power_mode"] == {"name": "25W", "id": 1}
    assert jetson["power_modes"] == {"15W": 0, "25W": 1, "MAXN_SUPER": 2}
    assert jetson["jetson_clocks"] is True
    assert (found["architecture"], found["cpu"]) == ("aarch64", "Cortex-A78AE")
    assert found["cpu_features"] == ["asimd", "asimdhp", "asimddp"]
    assert found["tensorrt"]["trtexec"] == {"path": str(device.folder / "bin" / "trtexec"), "version": "10.3.0"}
    assert (found["tensorrt"]["version"], found["tensorrt"]["library"]) == ("10.3.0", "10.3.0")
    assert (found["cuda"], found["compute_capability"], found["gpu"]) == ("12.6.68", "8.7", "ga10b")
    assert (found["power_mode"], found["l4t"], found["board"]) == ("25W", "36.4.3", jetson["board"])


def test_a_pc_is_no_jetson_and_has_5_empty_words(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    found = facts({"root": str(tmp_path / "root")}, tmp_path)
    assert found["jetson"] is None
    assert [found[name] for name in ("board", "l4t", "power_mode", "cuda", "architecture")] == [None] * 5


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a module that other processes and this one can import; gives its name."""

    def make(source: str) -> str:
        name = f"runtime_of_{len(list(tmp_path.glob('*.py')))}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return make


@pytest.mark.parametrize("probe", [probed, runtimes_here._probed_by_a_child])
def test_1_runtime_says_its_version_and_providers_whichever_way_it_is_asked(
    probe: Callable[[str], dict[str, Any]], runtime: Callable[[str], str]
) -> None:
    assert probe(runtime("__version__ = '1.2'\n")) == {"version": "1.2"}
    source = "__version__ = '1.3'\ndef get_available_providers():\n    return ['Stand-in']\n"
    assert probe(runtime(source)) == {"version": "1.3", "providers": ["Stand-in"]}
    assert probe("no_such_runtime") == {"missing": "ModuleNotFoundError: No module named 'no_such_runtime'"}


@pytest.mark.parametrize("probe", [probed, runtimes_here._probed_by_a_child])
def test_an_import_that_ends_the_process_with_signal_9_is_a_sentence(
    probe: Callable[[str], dict[str, Any]], runtime: Callable[[str], str]
) -> None:
    name = runtime("import os\nos.kill(os.getpid(), 9)\n")
    assert probe(name) == {"missing": "the process that imports it was ended by signal 9"}


@pytest.mark.parametrize("probe", [probed, runtimes_here._probed_by_a_child])
def test_an_import_that_hangs_is_given_up_after_1_second(
    probe: Callable[[str], dict[str, Any]], runtime: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes_here, "PROBE_LIMIT_S", 1.0)
    assert "did not end" in probe(runtime("import time\ntime.sleep(600)\n"))["missing"]


def test_the_library_of_8_5_2_is_known_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/aarch64-linux-gnu"
    folder.mkdir(parents=True)
    for name in ("libnvinfer.so.8", "libnvinfer.so.8.5.2", "libnvinfer_plugin.so.8.5.1"):
        (folder / name).touch()
    assert library_version(root=str(tmp_path)) == "8.5.2"


def test_cuda_11_4_is_known_by_its_runtime_library(tmp_path: Path) -> None:
    folder = tmp_path / "usr/local/cuda-11.4/targets/aarch64-linux/lib"
    folder.mkdir(parents=True)
    (folder / "libcudart.so.11.0").touch()
    (folder / "libcudart.so.11.4.298").touch()
    assert str(cuda_here(root=str(tmp_path))).startswith("11.")


def test_a_line_of_12_values_is_a_gpu() -> None:
    line = "Tesla T4, 7.5, 550.54, 0x0000000000000004, 15360, 15000, 585, 1590, 5001, 27.32, 70.00, 45"
    gpu = gpu_from_line(line)
    assert gpu is not None
    assert (gpu["name"], gpu["compute_capability"], gpu["memory_bytes"]) == ("Tesla T4", "7.5", 15360 * 2**20)
    assert (gpu["clock_max_mhz"], gpu["power_limit_w"], gpu["power_w"]) == (1590, 70, 27.32)
    assert gpu["held_down_by"] == ["the power limit"]


def test_what_an_orins_nvidia_smi_does_not_know_is_none_11_times() -> None:
    gpu = gpu_from_line(", ".join(["Orin (nvgpu)"] + ["[N/A]"] * 11))
    assert gpu is not None
    assert gpu["name"] == "Orin (nvgpu)"
    assert [gpu["memory_bytes"], gpu["clock_mhz"], gpu["power_limit_w"], gpu["held_down_by"]] == [None, None, None, []]


def test_bit_0_is_idleness_and_holds_nothing_down() -> None:
    assert held_down_by("0x0000000000000001") == []
    assert held_down_by("0x0000000000000060") == ["the temperature (software)", "the temperature (hardware)"]


def test_the_job_leaves_1_whole_result_as_the_device_would(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    start = REPOSITORY / "targets" / "on_device" / "start.py"
    done = subprocess.run(
        [sys.executable, str(start), "facts", str(tmp_path)],
        env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, '{"event": "done"}')
    assert json.loads((tmp_path / "result.json").read_text())["cores"] >= 1
