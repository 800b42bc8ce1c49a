"""What can go wrong in `calibration`, in words for the person who started the run.

CalibrationError
├── SampleRefused      a calibration sample cannot be used: NaN, infinity, wrong shape or type, none at all
├── LayerNotFinite     a layer answers NaN or infinity
├── LayerRefused       a named layer does not exist, was never reached, or answers no single tensor
└── RangesUnreadable   text that should hold ranges does not

A message says what, where and what to do, in one or two plain sentences.
"""


class CalibrationError(Exception):
    """An error that is explained by its message alone; it is printed without a traceback."""


class SampleRefused(CalibrationError):
    """A calibration sample cannot be used."""


class LayerNotFinite(CalibrationError):
    """A layer answers NaN or infinity."""


class LayerRefused(CalibrationError):
    """A named layer does not exist, was never reached, or answers no single tensor."""


class RangesUnreadable(CalibrationError):
    """Text that should hold ranges does not."""
