"""What can go wrong on a target, in the user's words.

TargetsError
├── UnknownTarget       no device file of that name
├── BudgetUnreadable    a limit that is not a number with the right unit
├── EngineMissing       the runtime is not installed
├── EngineRefused       a model or engine file that the runtime does not take, or that was built elsewhere
├── EngineFailed        the engine runs, but fails or answers nonsense
├── TimesRefused        no time taken there would say anything: the processor is emulated
├── DeviceMissing       the device is not the machine we are on, and cannot be reached
├── DeviceChanged       the device did not stay as it was while engines were timed
├── DeviceLost          the device was reached, and then the link or the time ended before the work did
└── DeviceFull          no space is left on the device
"""


class TargetsError(Exception):
    """Anything that `targets` says to its user."""


class UnknownTarget(TargetsError):
    """No device file of that name."""


class BudgetUnreadable(TargetsError):
    """A limit that is not a number with the right unit."""


class EngineMissing(TargetsError):
    """The runtime is not installed."""


class EngineRefused(TargetsError):
    """A model or engine file that the runtime does not take, or that was built elsewhere."""


class EngineFailed(TargetsError):
    """The engine runs, but fails or answers nonsense."""


class TimesRefused(TargetsError):
    """No time taken there would say anything: the processor is emulated."""


class DeviceMissing(TargetsError):
    """The device is not the machine we are on, and cannot be reached."""


class DeviceChanged(TargetsError):
    """The device did not stay as it was while engines were timed."""


class DeviceLost(TargetsError):
    """The device was reached, and then the link or the time ended before the work did."""


class DeviceFull(TargetsError):
    """No space is left on the device."""
