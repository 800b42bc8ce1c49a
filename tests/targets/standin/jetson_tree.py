"""The files of the stand-in Jetson: what an Orin Nano 8GB with JetPack 6.2 shows below /etc, /proc and /sys.

Values are as such a board prints them; the model says that it is a stand-in. Nothing here was measured.
"""

from pathlib import Path

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025"
MODEL = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super (stand-in)"
CORES = 6
# Name → (id, highest clock of the cores in kHz, of the GPU in Hz); from nvpmodel_p3767_0003_super.conf
MODES = {"15W": (0, 1497600, 612000000), "25W": (1, 1344000, 918000000), "MAXN_SUPER": (2, 1728000, 1020000000)}
LOWEST_CORE_KHZ, LOWEST_GPU_HZ, GPU = 729600, 306000000, "sys/devices/platform/17000000.gpu/devfreq_dev"
ZONES = {"cpu-thermal": 46000, "gpu-thermal": 46700, "cv0-thermal": 0, "tj-thermal": 47000}
RAILS = {"VDD_IN": (5040, 1000), "VDD_CPU_GPU_CV": (5040, 200)}  # millivolts, milliamperes


def files_of_a_jetson(*, mode: str) -> dict[str, str]:
    """Path below the root → text."""
    conf = [f"< POWER_MODEL ID={number} NAME={name} >" for name, (number, *_) in MODES.items()]
    core = [
        "processor\t: 0", "BogoMIPS\t: 62.50", "CPU implementer\t: 0x41", "CPU architecture: 8", "CPU part\t: 0xd42",
        "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp",
    ]  # fmt: skip
    files = {
        "etc/nv_tegra_release": RELEASE + "\n",
        "etc/nvpmodel.conf": "\n".join(conf) + "\n",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "proc/device-tree/model": MODEL + "\0",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0003-super\0nvidia,p3767-0003\0nvidia,tegra234\0",
        "proc/cpuinfo": "\n".join(core) + "\n",
        "proc/meminfo": "MemTotal:        7665672 kB\n",
        "proc/sys/kernel/arch": "aarch64\n",
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}\n',
        "usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "stand-in\n",
        "sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000\n",
        "sys/kernel/debug/bpmp/debug/clk/emc/min_rate": "204000000\n",
        "sys/kernel/debug/bpmp/debug/clk/emc/max_rate": "3199000000\n",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "2\n",
        "sys/class/thermal/cooling_device1/type": "devfreq-17000000.gpu\n",
        "sys/class/thermal/cooling_device1/cur_state": "0\n",
        **clock_files(mode),
    }
    for number, (zone, value) in enumerate(ZONES.items()):
        files[f"sys/class/thermal/thermal_zone{number}/type"] = zone + "\n"
        files[f"sys/class/thermal/thermal_zone{number}/temp"] = f"{value}\n"
    rails = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    for number, (rail, (millivolts, milliamperes)) in enumerate(RAILS.items(), start=1):
        files[f"{rails}/in{number}_label"] = rail + "\n"
        files[f"{rails}/in{number}_input"] = f"{millivolts}\n"
        files[f"{rails}/curr{number}_input"] = f"{milliamperes}\n"
    return files


def clock_files(mode: str, *, locked: bool = False) -> dict[str, str]:
    """The clocks of a power mode: from lowest to highest, or all at the highest."""
    _, core_khz, gpu_hz = MODES[mode]
    files = {
        f"{GPU}/min_freq": f"{gpu_hz if locked else LOWEST_GPU_HZ}\n",
        f"{GPU}/max_freq": f"{gpu_hz}\n",
        f"{GPU}/cur_freq": f"{gpu_hz if locked else LOWEST_GPU_HZ}\n",
    }
    for core in range(CORES):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        files[f"{folder}/scaling_governor"] = "schedutil\n"
        files[f"{folder}/scaling_max_freq"] = f"{core_khz}\n"
        files[f"{folder}/scaling_min_freq"] = f"{core_khz if locked else LOWEST_CORE_KHZ}\n"
        files[f"{folder}/scaling_cur_freq"] = f"{core_khz if locked else LOWEST_CORE_KHZ}\n"
    return files


def write_files(root: Path, files: dict[str, str]) -> None:
    """Write them below the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
