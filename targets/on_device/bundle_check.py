"""Is a bundle as it was made? Every file against SHA256SUMS, and SHA256SUMS against a signature.

Digests find damage; a signature tells who made it. `SHA256SUMS.sig` is what `ssh-keygen -Y sign` writes, in the
namespace edge-compress; signers are a file as its manual describes: a name and a public key per line.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from targets.on_device.failures import OnDeviceFailure
from targets.on_device.finish import digest

SUMS, SIGNATURE, NAMESPACE = "SHA256SUMS", "SHA256SUMS.sig", "edge-compress"
REPAIR = "Copy the bundle again from where it was made."


def refuse_damaged(bundle: Path) -> int:
    """Hold every listed file against its digest; how many there are.

    Raises:
        OnDeviceFailure: there is no list, or files are missing or changed, or are listed outside the bundle.
    """
    try:
        lines = (bundle / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise OnDeviceFailure("usage", f"{bundle / SUMS} cannot be read ({error}). {REPAIR}") from None
    wrong = []
    for line in lines:
        said, _, name = line.partition("  ")
        path = (bundle / name).resolve()
        if not name or bundle.resolve() not in path.parents:
            wrong.append(f"{name!r} is no file of the bundle")
        elif not path.is_file():
            wrong.append(f"{name} is missing")
        elif digest(path) != said:
            wrong.append(f"{name} was changed")
    if wrong or not lines:
        raise OnDeviceFailure(
            "usage", f"The bundle {bundle} is damaged: {', '.join(wrong[:5]) or 'no file is listed'}. {REPAIR}"
        )
    return len(lines)


def refuse_unsigned(bundle: Path, signers: Path) -> None:
    """Pass a bundle whose list of digests one of these signed.

    Raises:
        OnDeviceFailure: it is not signed, or by somebody else, or ssh-keygen is missing.
    """
    if not (bundle / SIGNATURE).is_file():
        raise OnDeviceFailure("usage", f"The bundle {bundle} is not signed: there is no {SIGNATURE} in it.")
    if not signers.is_file():
        raise OnDeviceFailure("usage", f"There is no file of signers {signers}: a name and a public key per line.")
    sums = (bundle / SUMS).read_bytes()
    find = ["ssh-keygen", "-Y", "find-principals", "-s", str(bundle / SIGNATURE), "-f", str(signers)]
    try:
        found = subprocess.run(find, capture_output=True, timeout=60)
        who = [name.split(",")[0] for name in found.stdout.decode("utf-8", "replace").splitlines() if name.strip()]
        check = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-n", NAMESPACE, "-s", str(bundle / SIGNATURE)]
        good = any(
            subprocess.run([*check, "-I", name], input=sums, capture_output=True, timeout=60).returncode == 0
            for name in who
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OnDeviceFailure(
            "missing", f"The signature cannot be checked: ssh-keygen does not run ({error})."
        ) from None
    if not good:
        raise OnDeviceFailure(
            "usage", f"The signature of {bundle} is of none of the signers in {signers}. Do not use it."
        )
