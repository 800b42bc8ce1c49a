"""Jobs on a device, over a real sshd on loopback and on this machine: what goes over, what comes back, what stays."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from targets.errors import DeviceFull, DeviceLost, EngineFailed, EngineMissing, EngineRefused
from targets.reach.conversation import Conversation
from targets.reach.device import Device
from targets.reach.device_part import packed
from targets.reach.this_machine import this_machine

MIB = 1 << 20
Reached = tuple[Device, Path]


@pytest.fixture
def here(tmp_path: Path, double: bytes) -> Reached:
    """This machine, and the folder that it keeps files in."""
    return this_machine(tmp_path / "kept", part=double), tmp_path / "kept"


@pytest.fixture(params=["over ssh", "here"])
def reached(request: pytest.FixtureRequest) -> Reached:
    """A device, and the folder that it keeps files in: both ways, the same words."""
    if request.param == "here":
        found: Reached = request.getfixturevalue("here")
        return found
    board: Callable[..., Device] = request.getfixturevalue("board")
    return board(), request.getfixturevalue("loopback_sshd").folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """3 MiB that repeat nowhere."""
    path = tmp_path_factory.mktemp("given") / "given"
    path.write_bytes(b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(3 * MIB // 32)))
    return {"given": path}


def sent(events: list[dict[str, Any]]) -> list[int]:
    return [event["done"] for event in events if "sent to" in event.get("what", "")]


def test_a_job_runs_and_its_1_file_comes_back_under_its_name(
    reached: Reached, given: dict[str, Path], tmp_path: Path
) -> None:
    device, kept = reached
    events: list[dict[str, Any]] = []
    into = tmp_path / "back"
    result = device.job("reverse", {}, files=given, fetch=("*",), into=into, limit_s=60, on_event=events.append)
    assert result["length"] == 3 * MIB
    assert (into / "out" / "reversed").read_bytes() == given["given"].read_bytes()[::-1]
    assert {"event": "progress", "done": 1, "of": 2, "what": "bytes"} in events
    assert {"event": "says", "text": "a line that is no event"} in events
    assert list((kept / "jobs").iterdir()) == []
    left = device.left()
    assert (left["files"], left["jobs"]) == (2, 0)  # what was given, and the part that does the jobs


def test_the_same_file_is_sent_1_time_for_2_jobs(here: Reached, given: dict[str, Path]) -> None:
    device, kept = here
    first: list[dict[str, Any]] = []
    second: list[dict[str, Any]] = []
    device.job("reverse", {"turn": 1}, files=given, limit_s=60, on_event=first.append)
    names = {path.name: path.stat().st_ino for path in (kept / "blobs").iterdir()}
    device.job("reverse", {"turn": 2}, files=given, limit_s=60, on_event=second.append)
    assert sent(first) == [1 * MIB, 2 * MIB, 3 * MIB]
    assert sent(second) == []
    assert {path.name: path.stat().st_ino for path in (kept / "blobs").iterdir()} == names


def test_a_file_that_was_cut_after_2_of_3_mib_goes_on_from_there(reached: Reached, given: dict[str, Path]) -> None:
    device, _ = reached
    content = given["given"].read_bytes()
    request = {"do": "receive", "files": [[hashlib.sha256(content).hexdigest(), len(content)]]}
    with Conversation(device.transport, request) as talk:
        assert talk.event() == {"event": "from", "bytes": 0}
        talk.send(content[: 2 * MIB])  # and the link is cut
    events: list[dict[str, Any]] = []
    assert device.job("reverse", {}, files=given, limit_s=60, on_event=events.append)["length"] == 3 * MIB
    assert sent(events) == [3 * MIB]


def test_1_changed_byte_in_what_is_kept_there_is_found_and_the_file_is_sent_again(
    here: Reached, given: dict[str, Path], tmp_path: Path
) -> None:
    device, kept = here
    device.job("reverse", {"turn": 1}, files=given, limit_s=60)
    blob = kept / "blobs" / hashlib.sha256(given["given"].read_bytes()).hexdigest()
    blob.chmod(0o644)
    with blob.open("r+b") as file:  # as a job does that writes into a file that it was given
        file.write(b"x")
    device.job("reverse", {"turn": 2}, files=given, fetch=("*",), into=tmp_path / "back", limit_s=60)
    assert (tmp_path / "back" / "out" / "reversed").read_bytes() == given["given"].read_bytes()[::-1]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("missing", EngineMissing), ("refused", EngineRefused), ("failed", EngineFailed), ("full", DeviceFull)],
)
def test_each_of_4_kinds_of_failure_is_an_error_of_its_own_with_the_sentence_of_the_job(
    kind: str, error: type[Exception], tmp_path: Path, double: bytes
) -> None:
    device = this_machine(tmp_path / "kept", part=double)
    with pytest.raises(error, match=r"this machine.* the plan is of TensorRT 10\.3\."):
        device.job("fail", {"kind": kind, "sentence": "the plan is of TensorRT 10.3."}, files={}, limit_s=60)
    assert device.left()["jobs"] == 0


def test_a_job_that_crashes_is_told_with_its_last_line_and_leaves_0_folders(here: Reached) -> None:
    device, kept = here
    with pytest.raises(EngineFailed, match="the job 'crash' ended with code 1: RuntimeError: by itself"):
        device.job("crash", {}, files={}, limit_s=60)
    assert list((kept / "jobs").iterdir()) == []


def test_a_job_over_its_1_second_is_stopped_with_its_child_and_may_put_back_what_it_changed(
    reached: Reached, tmp_path: Path, gone: Callable[[Path, int], bool]
) -> None:
    device, kept = reached
    pids = tmp_path / "pids"
    with pytest.raises(DeviceLost, match=r"'sleep' on .* took longer than 1 s and was stopped there"):
        device.job("sleep", {"pids": str(pids), "seconds": 60}, files={}, limit_s=1)
    assert gone(pids, 1)
    assert Path(f"{pids}.restored").read_text() == "put back"
    assert list((kept / "jobs").iterdir()) == []


def test_a_result_that_could_not_be_fetched_is_there_the_second_time_and_the_job_runs_1_time(
    reached: Reached, given: dict[str, Path], tmp_path: Path
) -> None:
    device, kept = reached
    (tmp_path / "a file").write_text("")
    events: list[dict[str, Any]] = []
    with pytest.raises(OSError, match="a file"):  # it is no folder, and can hold nothing
        device.job("reverse", {}, files=given, fetch=("*",), into=tmp_path / "a file", limit_s=60)
    (waiting,) = (kept / "jobs").iterdir()
    pid = json.loads((waiting / "result.json").read_text())["pid"]
    result = device.job(
        "reverse", {}, files=given, fetch=("*",), into=tmp_path / "back", limit_s=60, on_event=events.append
    )
    assert result["pid"] == pid
    assert any("had ended there before" in event.get("text", "") for event in events)
    assert list((kept / "jobs").iterdir()) == []
    assert device.job("reverse", {}, files=given, limit_s=60)["pid"] != pid  # fetched once, it is not handed out again


def test_2_runs_at_once_with_the_same_file_and_the_same_job_do_not_disturb_each_other(
    reached: Reached, given: dict[str, Path], tmp_path: Path, double: bytes
) -> None:
    device, kept = reached
    pids = tmp_path / "pids"
    other = this_machine(kept, part=double)  # the same folder, as another run has it

    def wake(event: dict[str, Any]) -> None:
        if pids.exists() and pids.read_text().count("\n") == 2:  # both are asleep
            Path(f"{pids}.wake").touch()

    job = {"pids": str(pids), "seconds": 60}
    with ThreadPoolExecutor(2) as both:
        waiting = [both.submit(each.job, "sleep", job, files=given, limit_s=60, on_event=wake)
                   for each in (device, other)]  # fmt: skip
        found = {str(each.result()["pid"]) for each in waiting}
    assert found == {line.split()[0] for line in pids.read_text().splitlines()}
    assert len(found) == 2
    assert device.left()["files"] == 2


def test_cleaning_leaves_0_files_of_ours(here: Reached, given: dict[str, Path]) -> None:
    device, kept = here
    device.job("reverse", {}, files=given, limit_s=60)
    done = device.clean()
    assert done["freed_bytes"] >= 3 * MIB
    assert not kept.exists()
    assert device.left()["files"] == 0
    assert not kept.exists()  # looking leaves nothing either


def test_cleaning_leaves_1_job_that_somebody_is_at_work_with(here: Reached, tmp_path: Path, double: bytes) -> None:
    device, kept = here
    pids, found = tmp_path / "pids", []

    def clean(event: dict[str, Any]) -> None:
        if event.get("text") == "asleep":
            found.append(this_machine(kept, part=double).clean()["busy"])
            Path(f"{pids}.wake").touch()

    device.job("sleep", {"pids": str(pids), "seconds": 60}, files={}, limit_s=60, on_event=clean)
    assert found == [1]
    assert device.clean()["busy"] == 0
    assert not kept.exists()


@pytest.mark.parametrize("name", ["../given", "/given", "job.json", "on_device.pyz", "a//b", ""])
def test_a_file_has_no_place_in_a_job_under_1_of_6_names(name: str, tmp_path: Path, given: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="no name for a file of a job"):
        this_machine(tmp_path / "kept").job("reverse", {}, files={name: given["given"]}, limit_s=60)


def test_our_own_part_packs_to_the_same_bytes_2_times_and_answers(tmp_path: Path) -> None:
    assert packed() == packed()
    with pytest.raises(EngineFailed, match="one of facts, build, answer"):
        this_machine(tmp_path / "kept").job("dance", {}, files={}, limit_s=60)
