"""Where the file that is sent to a device starts: its `__main__.py`. A Python that is too old can read this too."""

import json
import sys

OLDEST = (3, 8)

if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        said = "this device has Python %d.%d; 3.8 or later is needed." % sys.version_info[:2]
        sys.stdout.write(json.dumps({"event": "failed", "kind": "missing", "sentence": said}) + "\n")
        sys.exit(1)
    from targets.on_device.main import main

    sys.exit(main(sys.argv[1:]))
