"""Where the file that is sent to a device starts: its `__main__.py`. A Python that is too old can read this too."""

import json
import signal
import sys

OLDEST = (3, 8)

if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        said = "this device has Python %d.%d; 3.8 or later is needed." % sys.version_info[:2]
        sys.stdout.write(json.dumps({"event": "failed", "kind": "missing", "sentence": said}) + "\n")
        sys.exit(1)
    # Asked to stop, it does what it does on Ctrl-C: clocks that were locked are put back on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from targets.on_device.main import main

    sys.exit(main(sys.argv[1:]))
