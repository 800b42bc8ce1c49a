"""What the user may write for a device, and what is refused before it comes near a command line."""

from pathlib import Path

import pytest

from targets.errors import DeviceMissing
from targets.reach.address import Address, address_from, named_addresses
from targets.reach.openssh import place_of


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("ssh://me@orin", "me", "orin", None),
        ("ssh://orin", None, "orin", None),
        ("ssh://me@192.168.1.20:2222", "me", "192.168.1.20", 2222),
        ("ssh://me@[fe80::1%eth0]:22", "me", "fe80::1%eth0", 22),
        ("ssh://Me.too_1@Lab-Orin.local/", "Me.too_1", "Lab-Orin.local", None),
    ],
)
def test_5_addresses_are_read(text: str, user: str | None, host: str, port: int | None) -> None:
    assert address_from(text) == Address(text, host, user, port)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=touch x@orin", "ssh://-oProxyCommand=x", "ssh://me@-F", "ssh://-l@orin", "ssh://me@a;b",
        "ssh://me@a b", "ssh://me@$(x)", "ssh://me@`x`", "ssh://me@a|b", "ssh://me@a\nb", "ssh://me:word@orin",
        "ssh://me@orin/folder", "ssh://me@orin?x", "ssh://me@orin:0", "ssh://me@orin:99999", "ssh://me@orin:x",
        "ssh://", "ssh://me@", "http://orin", "ssh://me@[::1", "orin", "-oProxyCommand=x", "",
    ],
)  # fmt: skip
def test_each_of_23_slips_and_tricks_is_refused_in_1_sentence(text: str) -> None:
    with pytest.raises(DeviceMissing) as refused:
        address_from(text)
    assert "ssh://user@host" in str(refused.value) or "cannot be the" in str(refused.value)
    assert len(str(refused.value)) <= 420


def test_2_named_devices_are_read_with_what_they_leave_out(tmp_path: Path) -> None:
    config = tmp_path / "devices.ini"
    config.write_text(
        "[orin]\naddress = ssh://me@10.0.0.2:2222   # the one in the rack\npython = ~/venv/bin/python3\n"
        "folder = /data/our files\nssh_config = /etc/other\n[pi]\naddress = ssh://pi\n"
    )
    assert sorted(named_addresses(config)) == ["orin", "pi"]
    orin = Address("orin", "10.0.0.2", "me", 2222, "~/venv/bin/python3", "/data/our files", Path("/etc/other"))
    assert address_from("orin", config=config) == orin
    assert address_from("pi", config=config) == Address("pi", "pi", folder="~/.edge-compress", python="python3")
    assert place_of(orin) == ["-F", "/etc/other", "-p", "2222", "-l", "me"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\n", "the line `address"),
        ("[a]\naddress = ssh://a\npasword = x\n", "'pasword' is not known there"),
        ("[a]\naddress = ssh://a\npython = python3 -X\n", "cannot be the python"),
        ("[a]\naddress = ssh://a\npython = $(x)\n", "cannot be the python"),
        ("[a]\naddress = ssh://a\nfolder = /\n", "cannot be the folder"),
        ("[a]\naddress = ssh://a\nfolder = kept\n", "cannot be the folder"),
        ("address = ssh://a\n", "cannot be read"),
        ("[a]\n[a]\n", "cannot be read"),
    ],
)
def test_each_of_8_slips_in_the_file_of_devices_is_named(text: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "devices.ini"
    config.write_text(text)
    with pytest.raises(DeviceMissing, match=r"devices\.ini") as refused:
        address_from("a", config=config)
    assert said in str(refused.value)


def test_a_name_that_is_unknown_is_answered_with_the_2_there_are(tmp_path: Path) -> None:
    config = tmp_path / "devices.ini"
    config.write_text("[orin]\naddress = ssh://orin\n[pi]\naddress = ssh://pi\n")
    with pytest.raises(DeviceMissing, match=r"no device named 'jetson' in .*There are: orin, pi; or write ssh://"):
        address_from("jetson", config=config)
    with pytest.raises(DeviceMissing, match="It names none yet"):
        address_from("jetson", config=tmp_path / "other.ini")
