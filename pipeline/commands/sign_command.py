"""`compress sign`: vouch for a bundle with an SSH key."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.arguments import command_parser, flags_from

EXAMPLES = """\
examples:
  compress sign ./compressed/photos --key ~/.ssh/id_ed25519          a private key
  compress sign ./compressed/photos --key ~/.ssh/id_ed25519.pub      a key that your agent holds

  echo "me@laptop $(cat ~/.ssh/id_ed25519.pub)" > signers       whom a receiver trusts
  compress verify ./compressed/photos --signers signers
  python3 build_on_device.py --signers signers                       on the device, in the bundle

Every file of the bundle is held against its digest first; then ssh-keygen signs SHA256SUMS. A pass phrase is asked for
on a terminal alone: without one the key has to be in the agent. A bundle that `compress build` finishes has new digests
and is to be signed again.

exit codes: 0 it is signed, 2 it is damaged, or the key cannot sign
"""


def sign(arguments: Sequence[str]) -> int:
    """Run `compress sign`; returns the exit code."""
    parser = command_parser("sign", says="Sign a bundle's list of digests with an SSH key.", examples=EXAMPLES)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder of the bundle, or the --out of a run")
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="a private key, or .pub of the agent's")
    flags = flags_from(parser, arguments)
    from pipeline.signing import sign_bundle

    folder, files = sign_bundle(flags.bundle, key=flags.key)
    sys.stdout.write(f"{folder / 'SHA256SUMS.sig'}: {flags.key} vouches for {files} files\n")
    return 0
