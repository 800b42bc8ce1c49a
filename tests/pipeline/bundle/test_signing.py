"""Bundles signed with real keys of ssh-keygen: the right key, another one, a change afterwards, no signature."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bundle import write_bundle
from pipeline.commands.build_command import build
from pipeline.commands.sign_command import sign
from pipeline.commands.verify_command import verify
from pipeline.errors import BundleRefused, UsageRefused
from pipeline.finish_bundle import finish_bundle
from pipeline.integrity import MANIFEST, SIGNATURE, SUMS, digests_of, sums_text
from pipeline.signing import refuse_unvouched, sign_bundle
from pipeline.verify import verify_bundle
from targets.devices.x86_cpu import TARGET
from targets.on_device.finish_here import main as build_on_device
from targets.on_device.main import JOBS, function_of

NO_DEVICES = Path("devices.ini")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys ours and theirs, and a file of signers for each."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is missing")
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("ours", "theirs"):
        new_key(folder / name)
        public = (folder / f"{name}.pub").read_text()
        (folder / f"{name}.signers").write_text(f"{name}@example.com {public}")
    return folder


def new_key(path: Path, *, pass_phrase: str = "") -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", pass_phrase, "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True)


@pytest.fixture
def bundle(finished: Any) -> Path:
    return write_bundle(finished.plan, finished.journey, dataset=finished.dataset)


def resealed(folder: Path) -> None:
    """Make manifest and list of digests fit again after a change: what a forger would do."""
    manifest = {**json.loads((folder / MANIFEST).read_text()), "files": digests_of(folder)}
    text = json.dumps(manifest).encode()
    (folder / MANIFEST).write_bytes(text)
    (folder / SUMS).write_text(sums_text(manifest["files"], manifest=hashlib.sha256(text).hexdigest()))


def test_1_of_2_signers_is_the_one_who_signed_and_the_other_is_refused(
    bundle: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign([str(bundle), "--key", str(keys / "ours")]) == 0
    assert "vouches for" in capsys.readouterr().out
    assert verify([str(bundle), "--signers", str(keys / "ours.signers")], config=NO_DEVICES) == 0
    with pytest.raises(BundleRefused, match="of none of the signers"):
        verify([str(bundle), "--signers", str(keys / "theirs.signers")], config=NO_DEVICES)
    both = keys / "both"
    both.write_text((keys / "theirs.signers").read_text() + "*@example.org,*@example.com " + public(keys, "ours"))
    refuse_unvouched(bundle, signers=both)


def public(keys: Path, name: str) -> str:
    return (keys / f"{name}.pub").read_text()


def test_ssh_keygen_itself_takes_the_1_signature_in_our_namespace_and_in_no_other(bundle: Path, keys: Path) -> None:
    sign_bundle(bundle, key=keys / "ours")
    codes = []
    for namespace in ("edge-compress", "file"):
        command = ["ssh-keygen", "-Y", "verify", "-f", str(keys / "ours.signers"), "-I", "ours@example.com"]
        command += ["-n", namespace, "-s", str(bundle / SIGNATURE)]
        asked = subprocess.run(command, input=(bundle / SUMS).read_bytes(), capture_output=True, check=False)
        codes.append(asked.returncode == 0)
    assert codes == [True, False]


def test_1_file_changed_after_signing_is_named_and_resealing_it_does_not_help(bundle: Path, keys: Path) -> None:
    signers = keys / "ours.signers"
    sign_bundle(bundle, key=keys / "ours")
    (bundle / "labels.json").write_text('["other", "names", "entirely"]')
    with pytest.raises(BundleRefused, match=r"changed: labels\.json"):
        verify_bundle(bundle, signers=signers)
    with pytest.raises(BundleRefused, match="is damaged"):
        sign_bundle(bundle, key=keys / "ours")
    resealed(bundle)
    assert verify_bundle(bundle).exit_code == 0  # digests alone do not tell
    with pytest.raises(BundleRefused, match="of none of the signers"):
        verify_bundle(bundle, signers=signers)


def test_0_signatures_are_refused_where_signers_are_named(
    bundle: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signers = str(keys / "ours.signers")
    for command in (verify, build):
        with pytest.raises(BundleRefused, match="is not signed"):
            command([str(bundle), "--signers", signers], config=NO_DEVICES)
        with pytest.raises(UsageRefused, match="no file of signers"):
            command([str(bundle), "--signers", str(keys / "nobody")], config=NO_DEVICES)
    assert build_on_device(bundle, ["--signers", signers]) == 2
    assert "is not signed" in capsys.readouterr().err
    assert not (bundle / "evidence").exists()


def test_build_on_device_refuses_1_of_2_signers_before_it_opens_the_order(
    bundle: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_bundle(bundle, key=keys / "ours")
    assert build_on_device(bundle, ["--signers", str(keys / "theirs.signers")]) == 2
    assert "of none of the signers" in capsys.readouterr().err
    assert build_on_device(bundle, ["--signers", str(keys / "ours.signers")]) == 2
    said = capsys.readouterr().err
    assert "files are whole, and signed" in said
    assert "has nothing to finish" in said  # it holds an engine


def test_a_pass_phrase_is_never_asked_for_without_a_terminal_and_1_sentence_names_the_agent(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    new_key(keys / "locked", pass_phrase="a secret")
    with pytest.raises(UsageRefused, match="no terminal to ask for it on") as refused:
        sign_bundle(bundle, key=keys / "locked")
    assert f"--key {keys / 'locked'}.pub" in str(refused.value)
    assert not (bundle / SIGNATURE).exists()


@pytest.mark.parametrize(("key", "said"), [("nowhere", "there is no key"), ("bad", "was not signed with")])
def test_2_keys_that_cannot_sign_are_named(bundle: Path, keys: Path, key: str, said: str) -> None:
    (keys / "bad").write_text("no key\n")
    with pytest.raises(UsageRefused, match=said) as refused:
        sign_bundle(bundle, key=keys / key)
    assert str(keys / key) in str(refused.value)
    assert len(str(refused.value)) <= 420
    assert not (bundle / SIGNATURE).exists()


class ThisMachine:
    """A device whose jobs are done here, in this process."""

    address = "ssh://this@machine"

    def __init__(self) -> None:
        self.known = function_of(JOBS["facts"])({}, Path(tempfile.gettempdir()))

    def facts(self) -> dict[str, Any]:
        return dict(self.known)

    def job(
        self, what: str, job: Mapping[str, Any], *, files: Mapping[str, Path], fetch: Sequence[str] = (),
        into: Path | None = None, limit_s: float,
    ) -> dict[str, Any]:  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, path in files.items():
                shutil.copyfile(path, folder / file)
            settings = {**job.get("settings", {}), "processes": 1}
            told = function_of(JOBS[what])({**job, "settings": settings}, folder)
            for file in told["files"] if list(fetch) == ["*"] else fetch:
                assert into is not None
                shutil.copyfile(folder / file, into / file)
        return dict(told)


def test_a_signed_bundle_that_is_finished_holds_the_device_s_answers_and_no_signature(bundle: Path, keys: Path) -> None:
    """Unfinished by hand: model.onnx stands for what would be built, and two networks are one."""
    with np.load(bundle / "examples.npz") as stored:
        arrays = dict(stored)
    write_order(bundle, arrays["inputs"], arrays["labels"])
    arrays["outputs"] = arrays["outputs"] + 1  # what stood there was not the engine's answer
    np.savez(bundle / "examples.npz", **arrays)
    resealed(bundle)
    sign_bundle(bundle, key=keys / "ours")
    device = ThisMachine()
    folder, manifest = finish_bundle(bundle, target=TARGET, device=device)  # type: ignore[arg-type]
    assert not (folder / SIGNATURE).exists()
    with pytest.raises(BundleRefused, match="is not signed"):
        verify_bundle(folder, signers=keys / "ours.signers")
    name = str(manifest["engine"]["file"])
    assert json.loads((folder / f"{name}.json").read_text())["input"] == {"name": "image", "dtype": "float32"}
    for reached in (None, device):
        found = verify_bundle(folder, device=reached)
        assert (found.asked, found.exit_code, found.answers.inputs) == (name, 0, 16), found.remarks
    sign_bundle(folder, key=keys / "ours")
    assert verify_bundle(folder, signers=keys / "ours.signers").exit_code == 0


def write_order(bundle: Path, inputs: np.ndarray, labels: np.ndarray) -> None:
    import gzip

    (bundle / "to_finish").mkdir()
    (bundle / "to_finish" / "inputs.raw.gz").write_bytes(gzip.compress(inputs.tobytes(), mtime=0))
    order = {
        "schema": 1, "target": "x86-cpu", "runtime": "onnxruntime", "threads": 1, "seed": 0, "samples": 5,
        "engines": {
            name: {"mode": mode, "onnx": "model.onnx", "float16": None}
            for name, mode in (("int8", "int8"), ("teacher", "float"))
        },
        "inputs": {
            "file": "to_finish/inputs.raw.gz", "name": "image", "dtype": "float32", "shape": list(inputs.shape)
        },
        "metric": "top1", "labels": labels.tolist(),
        "limits": [{"limit": "max_accuracy_drop_points", "bound": 1.0, "origin": "target x86-cpu"}],
    }  # fmt: skip
    (bundle / "to_finish" / "order.json").write_text(json.dumps(order))
