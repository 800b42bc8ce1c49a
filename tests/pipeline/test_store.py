"""Finished work is found again when it is whole, and not when anything it depends on has changed."""

import dataclasses
import errno
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.candidate import Form
from pipeline.errors import OutRefused
from pipeline.store import (
    Store,
    code_version,
    digest_of,
    file_digest,
    read_json,
    refusal,
    settings_of,
    write_bytes,
    write_json,
    written_atomically,
)


@dataclasses.dataclass(frozen=True)
class Knob:
    rate: float = 0.1
    widths: tuple[int, ...] = (1, 2)
    function: Callable[..., Any] = max
    note: str = dataclasses.field(default="", repr=False)


def finished(folder: Path, *, digest: str = "ab" * 32) -> Store:
    store = Store(folder)
    write_bytes(store.place("distill", digest) / "weights", b"0123456789")
    store.finish("distill", digest, files=("weights",), facts={"score": 0.5})
    return store


def test_a_result_with_1_file_is_found_with_its_facts(tmp_path: Path) -> None:
    found = finished(tmp_path).find("distill", "ab" * 32)
    assert found is not None
    assert found["facts"] == {"score": 0.5}
    assert found["files"] == {"weights": file_digest(tmp_path / "distill-abababababababab" / "weights")}


def test_of_2_digests_with_the_same_first_16_letters_only_the_right_one_is_found(tmp_path: Path) -> None:
    store = finished(tmp_path)
    assert store.find("distill", "ab" * 8 + "cd" * 24) is None


@pytest.mark.parametrize("damage", [b"", b"0123456780", b"0123456789+"])
def test_a_result_whose_file_changed_by_1_byte_or_more_is_not_found(tmp_path: Path, damage: bytes) -> None:
    store = finished(tmp_path)
    (store.place("distill", "ab" * 32) / "weights").write_bytes(damage)
    assert store.find("distill", "ab" * 32) is None


def test_a_result_without_its_1_file_is_not_found(tmp_path: Path) -> None:
    store = finished(tmp_path)
    (store.place("distill", "ab" * 32) / "weights").unlink()
    assert store.find("distill", "ab" * 32) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"digest": 1}', "\x00"])
def test_a_result_json_in_6_damaged_forms_is_not_found(tmp_path: Path, text: str) -> None:
    store = finished(tmp_path)
    (store.place("distill", "ab" * 32) / "result.json").write_text(text)
    assert store.find("distill", "ab" * 32) is None


def test_forgetting_removes_1_result_and_2_times_is_as_good_as_once(tmp_path: Path) -> None:
    store = finished(tmp_path / "work")
    store.forget()
    store.forget()
    assert store.find("distill", "ab" * 32) is None
    assert not (tmp_path / "work").exists()


def test_a_write_that_fails_halfway_leaves_the_10_old_bytes_and_nothing_beside_them(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"0123456789")
    with pytest.raises(KeyError), written_atomically(tmp_path / "file") as beside:
        beside.write_bytes(b"new")
        raise KeyError
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_refused_in_words_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(OutRefused, match="is full"), written_atomically(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_weights_on_a_disk_that_takes_no_100_000_bytes_are_refused_in_words(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from pipeline.candidate import save_weights\n"
        "from pipeline.errors import OutRefused\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "try:\n    save_weights(torch.nn.Linear(300, 300), Path(sys.argv[1]) / 'weights')\n"
        "except OutRefused as error:\n    raise SystemExit(7)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 7, ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_4_kinds_of_failed_writes_say_what_to_do() -> None:
    for number in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO):
        assert "--out" in str(refusal(Path("/somewhere/file"), OSError(number, os.strerror(number))))


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutRefused, match="--out"):
        write_bytes(tmp_path / "out" / "weights", b"1")


def test_json_keeps_its_order_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, None]})
    assert list(read_json(tmp_path / "a.json").items()) == [("b", 1), ("a", [0.1, None])]
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert read_json(tmp_path / "a.json")["b"] == 1


DIFFERENT = [
    1, 1.0, True, "1", None, 0.1, 0.10000000000000002, [1], [[1]], {"1": 1}, {1, 2}, {1, 3}, max, min, dict, Form.ONNX,
    Knob(), Knob(rate=0.2), Knob(widths=(2, 1)), Knob(function=min), Path("a"), Path("b"),
    functools.partial(Knob), functools.partial(Knob, 0.3), functools.partial(Knob, rate=0.3), np.float32(0.1),
    np.arange(3000), np.arange(3000) + np.eye(1, 3000, 1500, dtype=np.int64)[0], np.arange(3000.0), b"1",
]  # fmt: skip


def test_30_settings_have_30_digests() -> None:
    assert len({digest_of(setting) for setting in DIFFERENT}) == len(DIFFERENT) == 30


def test_settings_are_json_data_and_a_field_that_is_not_shown_is_no_part_of_them() -> None:
    for setting in DIFFERENT:
        json.dumps(settings_of(setting), allow_nan=False)
    assert digest_of(Knob(note="a")) == digest_of(Knob(note="b"))
    assert settings_of(Knob()) == {"is": "Knob", "rate": 0.1, "widths": [1, 2], "function": "builtins:max"}


def test_the_order_of_2_keys_does_not_matter_and_that_of_2_parts_does() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of(1, 2) != digest_of(2, 1)
    assert digest_of([1, 2]) != digest_of(1, 2)


def test_2_processes_with_other_hash_seeds_agree_on_digests_and_on_the_code_version() -> None:
    program = "from pipeline.store import *; print(digest_of({'x', 'y', 'z'}, {'b': 1, 'a': max}), code_version())"
    told = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert len(code_version()) == 64
