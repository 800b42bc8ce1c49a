"""`compress devices`: named ones, host keys taken after a yes alone, facts, and what was left there."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.commands.devices_command import devices
from pipeline.errors import UsageRefused
from targets.errors import DeviceMissing
from targets.reach.device import Device
from targets.reach.device_part import SOURCES

REPOSITORY = Path(__file__).resolve().parents[3]


def fingerprint_of(sshd: Any) -> str:
    """As the device itself would say it."""
    said = subprocess.run(
        ["ssh-keygen", "-lf", str(sshd.root / "host_key.pub")], capture_output=True, text=True, check=True
    )
    return said.stdout.split()[1]


def person(answer: str) -> SimpleNamespace:
    return SimpleNamespace(isatty=lambda: True, readline=lambda: answer)


def test_a_named_device_is_listed_on_1_line_by_the_real_command(loopback_sshd: Any, tmp_path: Path) -> None:
    folder = tmp_path / "settings" / "edge-compress"
    folder.mkdir(parents=True)
    (folder / "devices.ini").write_text(loopback_sshd.config.read_text())
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "devices"], cwd=REPOSITORY, capture_output=True, text=True, check=False,
        env={"XDG_CONFIG_HOME": str(folder.parent), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert (ended.stdout, ended.returncode) == (f"board  {loopback_sshd.address}\n", 0)


def test_without_a_file_0_devices_are_listed_and_the_place_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert devices([], config=tmp_path / "devices.ini") == 0
    assert str(tmp_path / "devices.ini") in capsys.readouterr().out
    assert devices(["--json"], config=tmp_path / "devices.ini") == 0
    assert json.loads(capsys.readouterr().out)["devices"] == []


def test_a_host_key_is_shown_and_taken_after_1_typed_yes(
    loopback_sshd: Any, board: Callable[..., Device], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    loopback_sshd.known_hosts.write_text("other ssh-ed25519 AAAA")  # without an end of line
    monkeypatch.setattr(sys, "stdin", person("yes\n"))
    assert devices(["trust", "board"], config=loopback_sshd.config) == 0
    assert fingerprint_of(loopback_sshd) in capsys.readouterr().out
    assert loopback_sshd.known_hosts.read_text().splitlines()[0] == "other ssh-ed25519 AAAA"
    assert board().left()["files"] == 0
    before = loopback_sshd.known_hosts.read_text()
    assert devices(["trust", "board"], config=loopback_sshd.config) == 0
    assert "known already" in capsys.readouterr().out
    assert loopback_sshd.known_hosts.read_text() == before


@pytest.mark.parametrize("answer", ["\n", "y\n", "no\n", ""])
def test_none_of_4_other_answers_takes_a_key(answer: str, loopback_sshd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loopback_sshd.known_hosts.write_text("")
    monkeypatch.setattr(sys, "stdin", person(answer))
    with pytest.raises(UsageRefused, match="no yes, and nothing was added"):
        devices(["trust", "board"], config=loopback_sshd.config)
    assert loopback_sshd.known_hosts.read_text() == ""


def test_without_a_person_1_fingerprint_that_fits_takes_the_key_and_no_other_does(
    loopback_sshd: Any, board: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback_sshd.known_hosts.write_text("")
    right = fingerprint_of(loopback_sshd)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(UsageRefused, match="nobody is here to say yes"):
        devices(["trust", "board"], config=loopback_sshd.config)
    with pytest.raises(UsageRefused, match="no key with the fingerprint SHA256:wrong"):
        devices(["trust", "board", "--fingerprint", "SHA256:wrong"], config=loopback_sshd.config)
    assert loopback_sshd.known_hosts.read_text() == ""
    assert devices(["trust", "board", "--fingerprint", right], config=loopback_sshd.config) == 0
    assert board().left()["files"] == 0


def test_a_changed_key_is_never_taken_even_with_1_fingerprint_that_fits(loopback_sshd: Any) -> None:
    known = loopback_sshd.known_hosts.read_text()
    loopback_sshd.stop()
    loopback_sshd.new_key("host_key")
    loopback_sshd.start()
    with pytest.raises(DeviceMissing, match="HAS CHANGED"):
        devices(["trust", "board", "--fingerprint", fingerprint_of(loopback_sshd)], config=loopback_sshd.config)
    assert loopback_sshd.known_hosts.read_text() == known


def test_trust_of_a_port_where_0_programs_listen_says_so(loopback_sshd: Any) -> None:
    loopback_sshd.stop()
    with pytest.raises(DeviceMissing, match="shows no host key"):
        devices(["trust", "board"], config=loopback_sshd.config)


def test_the_facts_of_a_device_are_shown_and_the_1_file_that_is_left_there_is_cleaned_away(
    loopback_sshd: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (SOURCES / "facts.py").exists():
        pytest.skip("for the facts of a device there is missing: targets/on_device/facts.py")
    assert devices(["show", "board"], config=loopback_sshd.config) == 0
    shown = capsys.readouterr().out
    assert f"left there, in {loopback_sshd.folder}:\n  1 files that were sent" in shown
    assert "`compress devices clean board`" in shown
    assert devices(["clean", "board", "--json"], config=loopback_sshd.config) == 0
    assert json.loads(capsys.readouterr().out)["freed_bytes"] > 10_000
    assert not loopback_sshd.folder.exists()


def test_each_of_3_slips_on_the_command_line_is_told(tmp_path: Path) -> None:
    for arguments, said in ((["thrust"], "Did you mean 'trust'"), (["show"], "which device"), (["--jsn"], "--json")):
        with pytest.raises(UsageRefused, match=said):
            devices(arguments, config=tmp_path / "devices.ini")
