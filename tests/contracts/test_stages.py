"""What holds for every stage that exists, found in pipeline/stages, each run on a network of three seconds."""

import hashlib
import importlib
import inspect
import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import pipeline.stages
from pipeline.candidate import Candidate, Form
from pipeline.data.augment import Augment
from pipeline.data.dataset import Dataset
from pipeline.models.resnet_cifar import ResNetCifar
from pipeline.stage import Run, Stage
from pipeline.stages.build import Build
from pipeline.stages.export import Export
from pipeline.store import digest_of, settings_of
from pipeline.training.loop import Training
from pipeline.training.optimizers import Sgd

FOLDER = Path(pipeline.stages.__path__[0])
SHORT = Training(epochs=2, batch=16, optimizer=Sgd(lr=0.02), augment=Augment(shift=1, flip=True, views=2))
network = partial(ResNetCifar, 8, width=8, classes=4)


def stages() -> list[type]:
    """The stage classes that the files of the folder define."""
    found = []
    for path in sorted(set(FOLDER.glob("*.py")) - {FOLDER / "__init__.py"}):
        module = importlib.import_module(f"pipeline.stages.{path.stem}")
        for _, each in inspect.getmembers(module, inspect.isclass):
            if each.__module__ == module.__name__ and is_dataclass(each) and hasattr(each, "takes"):
                found.append(each)
    return found


def made(stage: type) -> Any:
    """The stage with its defaults, trained for two epochs where it trains; in the target's own runtime alone."""
    wanted = {"training": SHORT, "further_engines": False}  # which runtime is the fastest is not the same in two runs
    return stage(**{name: wanted[name] for name in wanted.keys() & {field.name for field in fields(stage)}})


def content(candidate: Candidate) -> Any:
    """The bytes of a candidate; of an engine its operators and constants."""
    if candidate.form is not Form.ENGINE:
        return candidate.path.read_bytes()
    graph = onnx.load(candidate.path).graph  # ONNX Runtime names the nodes that it makes by a counter of the process
    constants = sorted((each.name, each.raw_data) for each in graph.initializer)
    return [node.op_type for node in graph.node], constants


@dataclass(frozen=True)
class Done:
    """A stage that was carried out, and what surrounded it."""

    stage: Any
    before: Candidate
    run: Run
    after: Candidate


def bytes_below(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def random_states() -> tuple[Any, ...]:
    numpy_state = np.random.get_state()  # noqa: NPY002 - the state that a stage must not touch
    return torch.get_rng_state().tolist(), str(numpy_state), random.getstate()


@pytest.fixture(params=stages(), ids=lambda stage: stage.__name__)
def carry_out(
    request: pytest.FixtureRequest,
    run_in: Callable[..., Run],
    candidate_in: Callable[..., Candidate],
    tiny_data: Callable[..., Dataset],
    tmp_path: Path,
) -> Callable[..., Done]:
    """Carries the stage out in a folder of the given name, on the form that it takes."""

    def carry(name: str = "here", **changes: Any) -> Done:
        stage, top = made(request.param), tmp_path / name
        candidate = teacher = candidate_in(top / "teacher", network, tiny_data())
        earlier = {Form.TORCH: (), Form.ONNX: (Export(0.0),), Form.ENGINE: (Export(0.0), Build(0.0))}[stage.takes]
        for each in earlier:
            candidate = each(candidate, run_in(top / each.name, teacher=teacher))
        run = run_in(top / "stage", teacher=teacher, shared=top / "answers", **changes)
        return Done(stage, candidate, run, stage(candidate, run))

    return carry


def test_at_least_5_stages_are_found() -> None:
    assert len(stages()) >= 5  # an empty listing would pass every other test


def test_a_stage_is_1_frozen_dataclass_in_the_file_of_its_verb() -> None:
    for stage in stages():
        assert made(stage).name == stage.__module__.rsplit(".", 1)[-1] == stage.__name__.lower()
        with pytest.raises(FrozenInstanceError):
            made(stage).name = "other"


def test_settings_are_json_and_a_limit_of_1_point_is_no_part_of_what_the_result_is() -> None:
    for stage in map(made, stages()):
        assert digest_of(stage) == digest_of(made(type(stage)))
        assert settings_of(stage)["is"] == type(stage).__name__


def test_takes_and_gives_are_honest_and_the_parent_is_the_input(carry_out: Callable[..., Done]) -> None:
    done = carry_out()
    stage: Stage = done.stage
    assert done.before.form is stage.takes
    assert done.after.form is stage.gives
    assert done.after.parent is done.before
    assert done.after.stage == stage.name
    assert done.after.digest == done.run.digest
    assert done.after.path.parent == done.run.folder
    assert done.after.path.is_file()
    assert (done.after.architecture is None) == (stage.gives is not Form.TORCH)
    settings_of(done.after.facts)


def test_the_input_keeps_its_bytes_and_0_files_are_written_outside_the_folder(carry_out: Callable[..., Done]) -> None:
    done = carry_out()
    top = done.run.folder.parent
    written = {name.split("/")[0] for name in bytes_below(top)}
    assert written <= {"teacher", "export", "build", "stage", "answers"}
    again = carry_out("again")
    for folder in ("teacher", "export", "build"):  # the same inputs made anew and not yet shown to the stage
        if (top / folder).is_dir():
            assert bytes_below(top / folder) == bytes_below(again.run.folder.parent / folder)
    assert not [name for name in bytes_below(done.run.folder) if name.endswith((".part", "training.safetensors"))]


def test_the_same_seed_gives_the_same_bytes_twice(carry_out: Callable[..., Done]) -> None:
    one, other = carry_out("one"), carry_out("two")
    assert content(one.after) == content(other.after)
    assert settings_of(one.after.facts) == settings_of(other.after.facts)


def test_the_random_state_of_3_libraries_is_left_alone(carry_out: Callable[..., Done]) -> None:
    torch.manual_seed(5)
    before = random_states()
    carry_out()
    assert random_states() == before


def test_a_result_made_earlier_is_built_again_from_its_facts_to_the_last_bit(carry_out: Callable[..., Done]) -> None:
    done = carry_out()
    architecture = done.stage.architecture(done.before, done.run, dict(done.after.facts))
    if done.after.form is not Form.TORCH:
        assert architecture is None
        return
    inputs = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        again = replace(done.after, architecture=architecture).module()(inputs)
        assert torch.equal(again, done.after.module()(inputs))
