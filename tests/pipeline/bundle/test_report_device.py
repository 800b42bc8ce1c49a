"""What the report says of a device that was reached."""

from pipeline.report_device import device_rows

STATE = {"power_mode": {"name": "15W"}, "temperatures_c": {"cpu": 46.0, "gpu": 51.26}}
HOTTER = {**STATE, "temperatures_c": {"cpu": 46.0, "gpu": 58.04}}


def test_this_machine_as_the_target_adds_0_rows() -> None:
    assert device_rows({"machine": "here", "device": None}) == []


def test_a_jetson_is_told_with_its_mode_its_clocks_and_its_hottest_part_before_and_after() -> None:
    device = {
        "board": "Jetson AGX Orin", "jetpack": "6.2", "tensorrt": "10.3.0", "before": STATE, "after": HOTTER,
        "clocks": {"locked": False, "why": "sudo asks for a password"}, "compute_p50_ms": 0.7, "compute_p99_ms": 0.71,
        "processes": 3,
    }  # fmt: skip
    rows = dict(device_rows({"device": device, "unstable": ["it was throttled"]}))
    assert rows["board"] == "Jetson AGX Orin"
    assert rows["power mode"] == "15W"
    assert rows["clocks"] == "not locked: sudo asks for a password"
    assert rows["hottest part"] == "51.3 °C before, 58.0 °C after"
    assert rows["kernels alone"].startswith("0.70")
    assert "copies to and from the GPU" in rows["kernels alone"]
    assert rows["unstable"] == "it was throttled"


def test_an_emulated_processor_is_named_and_0_temperatures_give_no_row() -> None:
    device = {"emulated": {"yes": True, "why": "the kernel runs on x86_64"}, "before": {}, "after": {}}
    rows = dict(device_rows({"device": device}))
    assert rows == {"emulated": "yes (the kernel runs on x86_64): answers count, times do not"}
