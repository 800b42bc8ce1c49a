"""One second of every run is not spent on a package that nothing calls."""

import subprocess
import sys

SCRIPT = """
import sys
import pipeline.compress
from pipeline.data.sklearn_digits import Digits
assert len(Digits()().train) == 750
print([name for name in ("scipy.stats", "sklearn") if name in sys.modules])
from pytorch_quantization.calib import histogram
print(round(float(histogram.entropy([0.5, 0.5])), 3))
import scipy.stats
print(hasattr(scipy.stats, "norm"))
"""


def test_neither_of_2_heavy_packages_is_loaded_and_entropy_works_all_the_same() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    assert told.split("\n")[:3] == ["[]", "0.693", "True"]  # ln 2
