"""Links that are refused, cut, or come back: over a real sshd on loopback, with real keys."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from targets.errors import DeviceFull, DeviceLost, DeviceMissing
from targets.reach.device import Device

Board = Callable[..., Device]
Gone = Callable[[Path, int], bool]
CLIENT = ("ssh",)


@pytest.fixture
def asleep(tmp_path: Path) -> dict[str, Any]:
    """A job that sleeps for a minute, and writes who it is."""
    return {"pids": str(tmp_path / "pids"), "seconds": 60}


@pytest.fixture(autouse=True)
def _as_the_command_line() -> Iterator[None]:
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL), signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGPIPE, before[0])
    signal.signal(signal.SIGINT, before[1])


def once(event: dict[str, Any], then: Callable[[], object]) -> None:
    """Do it as soon as the job sleeps."""
    if event.get("text") == "asleep":
        then()


def clients_of(pid: int) -> list[int]:
    """The ssh programs that this process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            if name in CLIENT and int(rest.split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def kill_clients() -> None:
    clients = clients_of(os.getpid())
    assert clients
    for client in clients:
        os.kill(client, signal.SIGKILL)


def test_a_device_whose_key_is_known_nowhere_is_refused_with_the_command_that_shows_it(
    loopback_sshd: Any, board: Board
) -> None:
    loopback_sshd.known_hosts.write_text("")
    with pytest.raises(DeviceMissing, match=r"not known here.*`compress devices trust board`"):
        board().left()
    assert loopback_sshd.known_hosts.read_text() == ""


def test_a_device_with_another_key_than_the_known_1_is_refused_and_the_known_1_stays(
    loopback_sshd: Any, board: Board
) -> None:
    known = loopback_sshd.known_hosts.read_text()
    loopback_sshd.stop()
    loopback_sshd.new_key("host_key")
    loopback_sshd.start()
    with pytest.raises(DeviceMissing, match="THE HOST KEY OF board HAS CHANGED") as refused:
        board().left()
    assert len(str(refused.value)) <= 420
    assert loopback_sshd.known_hosts.read_text() == known


def test_a_key_that_the_device_does_not_take_is_told_in_1_sentence(loopback_sshd: Any, board: Board) -> None:
    loopback_sshd.new_key("user_key")
    with pytest.raises(DeviceMissing, match=r"board refuses to let us in: .*Permission denied.*ssh-copy-id"):
        board().left()


def test_a_device_where_0_programs_listen_cannot_be_reached(loopback_sshd: Any, board: Board) -> None:
    loopback_sshd.stop()
    with pytest.raises(DeviceMissing, match=r"board cannot be reached: .*Connection refused"):
        board(patience_s=60).left()


def test_a_machine_with_0_ssh_clients_says_what_to_install(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = board()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceMissing, match=r"no program `ssh` on this machine.*openssh-client"):
        device.left()


def test_a_device_without_python3_99_says_so(loopback_sshd: Any, board: Board) -> None:
    loopback_sshd.name_it(python="python3.99")
    with pytest.raises(DeviceMissing, match=r"board: there is no `python3\.99` there"):
        board().left()


def test_a_device_with_python_3_6_says_so(loopback_sshd: Any, board: Board) -> None:
    # A stand-in for an old Python: this one, told that it is of 2016 before it reads what is sent to it.
    program = f"import sys; sys.version_info = (3, 6, 9, 'final', 0); exec(sys.argv[3])"  # noqa: F541
    wrapper = loopback_sshd.root / "old_python"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n')
    wrapper.chmod(0o755)
    loopback_sshd.name_it(python=str(wrapper))
    with pytest.raises(DeviceMissing, match=r"is Python 3\.6; 3\.8 or later is needed"):
        board().left()


def test_a_device_that_can_keep_0_more_than_512_kib_is_full(loopback_sshd: Any, board: Board, tmp_path: Path) -> None:
    # A stand-in for a full disk: a shell that lets no file grow beyond 1024 blocks of 512 bytes.
    wrapper = loopback_sshd.root / "limited_python"
    wrapper.write_text(f'#!/bin/sh\nulimit -f 1024\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    loopback_sshd.name_it(python=str(wrapper))
    (tmp_path / "given").write_bytes(b"x" * (5 << 20))
    with pytest.raises(DeviceFull, match=r"No space is left on board: .*compress devices clean board"):
        board().job("reverse", {}, files={"given": tmp_path / "given"}, limit_s=60)
    assert not any(path.name.endswith(".part") for path in (loopback_sshd.folder / "blobs").iterdir())


def test_a_real_disk_of_2_mib_is_full_and_keeps_its_space(loopback_sshd: Any, board: Board, tmp_path: Path) -> None:
    loopback_sshd.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(loopback_sshd.folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("for a real full disk there is missing: the right to mount one")
    try:
        (tmp_path / "given").write_bytes(b"x" * (5 << 20))
        with pytest.raises(DeviceFull, match=r"5242880 bytes are to come and \d+ are free"):
            board().job("reverse", {}, files={"given": tmp_path / "given"}, limit_s=60)
        assert board().left()["free_bytes"] > 1.8e6
    finally:
        subprocess.run(["umount", str(loopback_sshd.folder)], check=True)


def test_a_folder_that_can_hold_0_files_is_named(loopback_sshd: Any, board: Board) -> None:
    loopback_sshd.name_it(folder="/proc/kept")
    with pytest.raises(DeviceMissing, match=r"our folder /proc/kept there cannot be used: /proc/kept.*folder = …"):
        board().job("reverse", {}, files={}, limit_s=60)


def test_a_link_that_is_cut_in_mid_job_ends_the_job_and_its_1_child(
    asleep: dict[str, Any], board: Board, gone: Gone
) -> None:
    with pytest.raises(DeviceLost, match=r"The link to board was lost\. Nothing already computed is lost"):
        board().job("sleep", asleep, files={}, limit_s=60, on_event=lambda event: once(event, kill_clients))
    assert gone(Path(asleep["pids"]), 1)
    assert Path(asleep["pids"] + ".restored").read_text() == "put back"


def test_a_server_that_is_cut_in_mid_job_ends_the_job_and_its_1_child(
    asleep: dict[str, Any], board: Board, gone: Gone, loopback_sshd: Any
) -> None:
    with pytest.raises(DeviceLost, match="board went away in the middle of a job, and did not come back within 1 s"):
        board(patience_s=1).job(
            "sleep", asleep, files={}, limit_s=60, on_event=lambda event: once(event, loopback_sshd.stop)
        )
    assert gone(Path(asleep["pids"]), 1)


def test_ctrl_c_ends_the_job_and_its_1_child_and_leaves_0_folders(
    asleep: dict[str, Any], board: Board, gone: Gone, loopback_sshd: Any
) -> None:
    def interrupt() -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        board().job("sleep", asleep, files={}, limit_s=60, on_event=lambda event: once(event, interrupt))
    assert gone(Path(asleep["pids"]), 1)
    assert Path(asleep["pids"] + ".restored").read_text() == "put back"
    assert list((loopback_sshd.folder / "jobs").iterdir()) == []


def test_a_device_that_starts_anew_in_mid_job_gets_the_job_a_2nd_time_and_it_ends_well(
    asleep: dict[str, Any], board: Board, gone: Gone, loopback_sshd: Any
) -> None:
    events: list[dict[str, Any]] = []

    def restart(event: dict[str, Any]) -> None:
        events.append(event)
        if events.count({"event": "says", "text": "asleep"}) == 2:
            Path(asleep["pids"] + ".wake").touch()
        elif event.get("text") == "asleep":
            loopback_sshd.stop()
            threading.Timer(1, loopback_sshd.start).start()

    result = board(patience_s=60).job("sleep", asleep, files={}, limit_s=60, on_event=restart)
    texts = [event.get("text", "") for event in events]
    assert any(text.startswith("The link to board was lost. It is waited for, up to 60 s") for text in texts)
    assert "board answers again" in texts
    assert gone(Path(asleep["pids"]), 2)
    assert str(result["pid"]) == Path(asleep["pids"]).read_text().splitlines()[1].split()[0]


def test_1_connection_carries_several_calls_and_its_socket_is_private_and_removed(board: Board) -> None:
    device = board()
    device.left()
    sockets: Path = device.transport._sockets  # type: ignore[attr-defined]
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    (first,) = sockets.iterdir()
    number = first.stat().st_ino
    device.left()
    assert [each.stat().st_ino for each in sockets.iterdir()] == [number]
    device.close()
    assert not sockets.exists()
