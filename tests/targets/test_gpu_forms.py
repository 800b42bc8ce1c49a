"""What a device's facts make of an engine on its GPU; no device is asked for more than its facts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from targets.engines.elsewhere import Elsewhere
from targets.engines.gpu_forms import is_cuda, on_gpu, sparse_kernels, told_of_build, typed_strongly
from targets.engines.nothing import Nothing
from targets.errors import DeviceMissing
from targets.find import target_named

CUDA = {"version": "1.22.0", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
CPU = {"version": "1.22.0", "providers": ["CPUExecutionProvider"]}


class Facts:
    """A device that has facts, and is asked for no job."""

    address = "facts alone"

    def __init__(self, **facts: Any) -> None:
        self.told = {"gpu": "NVIDIA H200", "compute_capability": "9.0", **facts}

    def facts(self) -> dict[str, Any]:
        return dict(self.told)

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        raise AssertionError(f"no job {what} is wanted")


def engine_on(**facts: Any) -> Elsewhere:
    engine = target_named("nvidia-h200").through(Facts(**facts), settings={"lock_clocks": True}).engine
    assert isinstance(engine, Elsewhere)
    return engine


@pytest.mark.parametrize(
    ("facts", "name", "provider"),
    [
        ({"tensorrt": {"version": "10.13.3"}, "onnxruntime": CUDA}, "tensorrt", None),
        ({"tensorrt": {"version": None}, "onnxruntime": CUDA}, "onnxruntime", "cuda"),
        ({"onnxruntime": CUDA}, "onnxruntime", "cuda"),
        ({"tensorrt": {"version": None}, "onnxruntime": CPU}, "tensorrt", None),  # and is said to be missing there
    ],
)
def test_of_2_runtimes_tensorrt_comes_first_and_cuda_is_taken_where_there_is_no_tensorrt(
    facts: dict[str, Any], name: str, provider: str | None
) -> None:
    target = target_named("nvidia-h200").through(Facts(**facts))
    assert isinstance(target.engine, Elsewhere)
    assert (target.engine.name, target.engine.settings.get("provider")) == (name, provider)
    assert ("for it has no TensorRT" in target.summary) == (provider == "cuda")
    assert is_cuda(target.engine) == (provider == "cuda")
    assert on_gpu(target.engine)
    assert target.scheme().float_bits == 32


def test_a_cpu_target_never_goes_to_the_gpu_beside_it_and_another_gpu_is_refused_by_name() -> None:
    facts = Facts(architecture="x86_64", onnxruntime=CUDA)
    engine = target_named("x86-cpu").through(facts).engine
    assert isinstance(engine, Elsewhere)
    assert engine.settings == {}
    assert not on_gpu(engine)
    with pytest.raises(DeviceMissing, match="its GPU is NVIDIA H200"):
        target_named("nvidia-l4").through(facts)


@pytest.mark.parametrize(
    ("version", "ways"), [("8.6.1", 1), ("10.3.0", 2), ("10.16.2", 2), ("11.4.1", 1)]
)  # fmt: skip
def test_tensorrt_10_alone_builds_in_2_ways(version: str, ways: int) -> None:
    engine = engine_on(tensorrt={"version": version})
    strong = typed_strongly(engine)
    assert (strong is not None) == (ways == 2)
    if strong is not None:
        assert strong.settings == {"lock_clocks": True, "typed": "strong"}
        assert typed_strongly(strong) is None
    assert typed_strongly(Nothing()) is None
    assert typed_strongly(engine_on(onnxruntime=CUDA)) is None


@pytest.mark.parametrize(("capability", "sparse"), [("7.2", False), ("7.5", False), ("8.0", True), ("12.0", True)])
def test_sparse_kernels_are_asked_for_from_compute_capability_8_on(capability: str, sparse: bool) -> None:
    found = sparse_kernels(engine_on(tensorrt={"version": "10.3.0"}, compute_capability=capability))
    assert (found is not None) == sparse
    if found is not None:
        assert found.settings["sparsity"] is True
    assert sparse_kernels(engine_on(tensorrt={"version": "10.3.0"}, compute_capability=None)) is None
    assert sparse_kernels(engine_on(onnxruntime=CUDA)) is None


def test_what_the_device_told_of_a_build_holds_0_of_its_folders(tmp_path: Path) -> None:
    (tmp_path / "engine.plan.json").write_text(
        '{"workspace_mb": 512, "with": "trtexec", "timing_cache": "/home/user/kept/timing/kernels-0a", "seconds": 2.5,'
        ' "identity": {"settings": {"typed": "strong"}}, "command": ["/usr/src/tensorrt/bin/trtexec"]}'
    )
    told = told_of_build(tmp_path / "engine.plan")
    assert told == {
        "workspace_mb": 512, "with": "trtexec", "seconds": 2.5, "timing_cache": "kernels-0a",
        "settings": {"typed": "strong"},
    }  # fmt: skip
    assert told_of_build(tmp_path / "none.plan") == {}
