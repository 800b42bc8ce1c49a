"""Who vouches for a bundle: `ssh-keygen` signs its list of digests, and holds a signature against a list of signers.

A signature is SHA256SUMS.sig beside SHA256SUMS, in the namespace edge-compress: what `ssh-keygen -Y sign` writes, and
anybody with OpenSSH can check. Signers are a file as `man ssh-keygen` describes, a name and a public key per line.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.errors import BundleRefused, UsageRefused
from pipeline.integrity import SIGNATURE, SUMS, bundle_at, read_manifest, refuse_damaged
from pipeline.store import write_bytes
from targets.on_device.bundle_check import NAMESPACE, refuse_unsigned
from targets.on_device.failures import OnDeviceFailure

EVIDENCE = ("evidence/",)  # what a device left is in no list yet; `compress build` puts it there


def sign_bundle(place: Path, *, key: Path) -> tuple[Path, int]:
    """Sign the bundle at `place` once it was found whole; gives its folder, and how many files its digests cover.

    key: a private key, or the public half of one that the agent holds. A pass phrase is asked for on a terminal alone.

    Raises:
        BundleRefused: it is damaged. UsageRefused: the key is not there, or cannot sign.
    """
    folder = bundle_at(place)
    files = refuse_damaged(folder, read_manifest(folder), beside=EVIDENCE)
    if not key.is_file():
        raise UsageRefused(f"there is no key {key}. Name a private key, or the .pub of one that your agent holds.")
    with tempfile.TemporaryDirectory(prefix="edge-compress-") as name:
        beside = Path(name) / SUMS
        beside.write_bytes((folder / SUMS).read_bytes())
        _sign(beside, key=key, folder=folder)
        write_bytes(folder / SIGNATURE, beside.with_name(SIGNATURE).read_bytes())
    return folder, files


def _sign(sums: Path, *, key: Path, folder: Path) -> None:
    asks = sys.stdin is not None and sys.stdin.isatty()
    # Without a terminal nothing may wait for an answer: no askpass window, and no terminal to be opened by name.
    command = [] if asks else ["env", "SSH_ASKPASS_REQUIRE=never"]
    command += ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(sums)]
    try:
        ended = subprocess.run(
            command, stdin=None if asks else subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=None if asks else subprocess.PIPE, start_new_session=not asks, check=False,
        )  # fmt: skip
    except OSError as error:
        raise UsageRefused(f"{folder} was not signed: ssh-keygen does not run ({error}). Install OpenSSH.") from error
    if ended.returncode == 0 and sums.with_name(SIGNATURE).is_file():
        return
    said = (ended.stderr or b"").decode("utf-8", "replace")
    if "passphrase" in said:
        raise UsageRefused(
            f"{key} has a pass phrase, and there is no terminal to ask for it on. Put the key into your agent "
            f"(`ssh-add {key}`) and name its public half: --key {key}.pub"
        )
    why = next((line for line in reversed(said.splitlines()) if line.strip()), "see above").strip().rstrip(".")
    if "ssh-keygen: not found" in why or ended.returncode == 127:
        why = "ssh-keygen is not installed"
    raise UsageRefused(f"{folder} was not signed with {key}: {why}.")


def refuse_unvouched(folder: Path, *, signers: Path | None) -> None:
    """Pass a bundle whose list of digests one of the signers signed; anything where no signers are named.

    Raises:
        BundleRefused: it is not signed, or by somebody else. UsageRefused: there is no file of signers.
    """
    if signers is None:
        return
    if not signers.is_file():
        raise UsageRefused(f"there is no file of signers {signers}. It has a name and a public key per line.")
    try:
        refuse_unsigned(folder, signers)
    except OnDeviceFailure as failure:
        raise BundleRefused(failure.sentence) from failure
