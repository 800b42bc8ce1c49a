"""What is read from this machine, and what is understood of others."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

import targets.reach.local as local
from targets.devices.x86_cpu import scheme_from_features
from targets.reach.local import conditions_here, describe_machine, features_in

# Shortened from real machines: an Ice Lake server, a Zen 3, a Cortex-A76.
ICE_LAKE = (
    "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu sse4_1 avx f16c fma avx2 avx512f avx512_vnni\n"
)
ZEN_3 = "model name\t: AMD EPYC\nflags\t\t: fpu vme sse4_1 avx f16c fma avx2 vaes\n"
CORTEX_A76 = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm asimdhp asimddp\n"


def test_3_processors_have_the_features_that_decide_their_kernels() -> None:
    assert features_in(ICE_LAKE) == ("sse4_1", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni")
    assert features_in(ZEN_3) == ("sse4_1", "avx", "f16c", "fma", "avx2")
    assert features_in(CORTEX_A76) == ("asimd", "asimdhp", "asimddp")
    assert features_in("") == ()


@pytest.mark.parametrize(
    ("features", "in_16_bits"),
    [(("avx2",), True), (("avx2", "avx512f", "avx512bw"), True), ((), True), (("avx2", "avx_vnni"), False),
     (("avx512f", "avx512_vnni"), False), (("amx_int8",), False)],
)  # fmt: skip
def test_neighbours_are_bounded_unless_products_are_added_in_32_bits(
    features: tuple[str, ...], in_16_bits: bool
) -> None:
    scheme = scheme_from_features(features)
    assert (scheme.weight_bits, scheme.unsigned_activations, scheme.signed_zero_point) == (8, True, 128)
    assert scheme.sums_in_16_bits is in_16_bits


def test_this_machine_is_described_in_full() -> None:
    machine = describe_machine()
    assert machine.cores >= 1
    assert machine.cpu
    assert machine.operating_system
    assert machine.memory_bytes is None or machine.memory_bytes > 100e6


def test_a_machine_without_proc_is_described_by_what_python_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Path("/nowhere/at/all")
    for name in ("CPUINFO", "MEMINFO", "GOVERNOR"):
        monkeypatch.setattr(local, name, nowhere)
    conditions = conditions_here(
        target="x86-cpu", runtime="nothing 1", threads=1, batch=1, warmup_runs=0, samples=0, on_target=False
    )
    assert (conditions.cpu_features, conditions.memory_bytes, conditions.governor) == ((), None, None)
    assert conditions.cpu
    assert conditions.on_target is False


def test_the_17_facts_of_the_conditions_are_json() -> None:
    conditions = conditions_here(
        target="null", runtime="nothing 1", threads=2, batch=1, warmup_runs=20, samples=299, on_target=True
    )
    assert len(json.loads(json.dumps(asdict(conditions), allow_nan=False))) == 17
    assert (conditions.threads, conditions.warmup_runs, conditions.samples) == (2, 20, 299)
