"""What the lines of trtexec, and of TensorRT's own logger, say.

A line is `[11/22/2026-05:44:15] [E] [TRT] text` from trtexec and `[…] [TRT] [E] text` from the Python logger; E error,
W warning, I information, V verbose. A parser's error of 8.x comes after the node in ONNX's text form; of 10.x it has
"In node 4 with name: conv1 and operator: Conv (…): INVALID_NODE: …".
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from targets.on_device.failures import OnDeviceFailure

if TYPE_CHECKING:
    from targets.on_device.own_child import Ended

LINE = re.compile(r"^(?:\[[\d/:.-]+\] ?)?(?:\[TRT\] ?)?\[([EWIVF])\] ?(?:\[TRT\] ?)?(.*)$")
NODE = (
    re.compile(r"In node \S+ with name: (\S+) and operator"),
    re.compile(r"(?:for|at) node:? \{?(?:ForeignNode\[)?([^\s{}()\]]+)"),
)
BLOCK_NAME = re.compile(r'^name: "([^"]+)"')
UNKNOWN_OPTION = re.compile(r"Unknown option: (\S+)")
TIMED = re.compile(r"Timing trace has (\d+) queries")
MANAGED = re.compile(r"TensorRT-managed allocation.*now: CPU (\d+), GPU (\d+) \(MiB\)")
DEVICE_NAME = re.compile(r"Selected Device: (.+)$")
CAPABILITY = re.compile(r"Compute Capability: (\d+\.\d+)")
LAYER_COUNT = re.compile(r"(?:After .*|Original): (\d+) layers")
TUNED = re.compile(r"Timing Runner: (.+) \([A-Za-z]\w*[\[)]")
FULL_MEMORY = re.compile(r"out of memory|OutOfMemory|insufficient memory|[Rr]equested amount of GPU memory", re.I)
REFUSALS = re.compile(
    r"parse|INVALID_NODE|UNSUPPORTED|[Uu]nsupported|not supported|Assertion failed|Could not find any implementation"
    r"|importer|ModelImporter|incompatible|deserializ|[Ss]erialization|magicTag|plan file"
)
# What says nothing that the line before it has not said.
ECHOES = re.compile(
    r"--- (Begin|End) node ---|(?:^|cpp:\d+: )(?:input|output|op_type|domain|name|attribute)\b|^[{}]|^ |^$"
)
NO_GRAPH = re.compile(r"useCudaGraph flag has been ignored|CUDA graph capture .*failed|not permitted under CUDA graph")
NOISY = re.compile(r"locking GPU clock frequency|variance of .* is|coefficient of variance", re.I)
ENQUEUE_BOUND = re.compile(r"may be bound by Enqueue Time")


@dataclass
class Log:
    """Reads line by line and keeps what the callers ask for; never the whole of a verbose log."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    node: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    tuned: set[str] = field(default_factory=set)
    layer_count: int = 0

    def read(self, line: str) -> None:
        """One line."""
        self.last.append(line)
        found = LINE.match(line)
        kind, text = found.groups() if found else ("", line)
        block = BLOCK_NAME.match(text)
        if block and not self.node:
            self.node = block.group(1)
        if not found and self.errors and self.errors[-1].endswith(":"):
            self.errors[-1] += " " + text  # an error of 8.x goes on in the next line
        elif kind in ("E", "F") and not ECHOES.search(text):
            self.errors.append(text)
        elif kind == "W" and len(self.warnings) < 100:
            self.warnings.append(text)
        elif kind == "V":
            self._verbose(text)
        else:
            self._facts(text)

    def _verbose(self, text: str) -> None:
        tuned = TUNED.search(text)
        if tuned:
            self.tuned.add(tuned.group(1))
        count = LAYER_COUNT.search(text)
        if count:
            self.layer_count = int(count.group(1))

    def _facts(self, text: str) -> None:
        timed, managed = TIMED.search(text), MANAGED.search(text)
        name, capability = DEVICE_NAME.search(text), CAPABILITY.search(text)
        if timed:
            self.facts["timed"] = int(timed.group(1))
        if managed:
            self.facts["managed_gpu_mib"] = max(int(managed.group(2)), self.facts.get("managed_gpu_mib", 0))
        if name:
            self.facts["gpu"] = name.group(1).strip()
        if capability:
            self.facts["compute_capability"] = capability.group(1)

    def said(self, what: re.Pattern[str]) -> bool:
        """Whether a warning or an error says so."""
        return any(what.search(text) for text in [*self.warnings, *self.errors])

    def unknown_option(self) -> str | None:
        """The first option that is not known."""
        found = (UNKNOWN_OPTION.search(text) for text in self.errors)
        return next((each.group(1) for each in found if each), None)

    def says_graph(self) -> bool:
        """Whether an error speaks of CUDA graphs."""
        return any(re.search(r"graph|captur", text, re.I) for text in self.errors)

    def complaint(self) -> str:
        """The first error in words, with the node's name where there is one."""
        telling = [text for text in self.errors if not text.endswith(":")]  # where it happened alone says little
        text = [*telling, *self.errors, *list(self.last)[-1:], "it said nothing"][0]
        node = self.node
        for pattern in NODE:
            for error in self.errors:
                found = pattern.search(error)
                if not node and found and found.group(1):
                    node = found.group(1).rstrip(".")
        plain = re.sub(r"^(Error\[\d+\]: |\d+: )?(\[[^\]]*\]\s*)?", "", text).strip()
        if len(plain) > 230:
            plain = plain[:227] + "…"
        return f"{plain} (node {node})" if node and node not in plain else plain


def ended_badly(log: Log, ended: Ended, *, who: str, what: str) -> OnDeviceFailure:
    """Why a run did not end with 0, as the failure to raise; `who` did not do `what`."""
    option = log.unknown_option()
    if option:
        return OnDeviceFailure(
            "failed", f"trtexec does not know the option {option} and did not {what}: this version has other options "
            "than those known of it.",
        )  # fmt: skip
    if ended.killed:
        return OnDeviceFailure(
            "failed", f"{who} was killed: out of memory; it did not {what}. Close what else runs on the device, or set "
            "a smaller workspace.",
        )  # fmt: skip
    if log.said(FULL_MEMORY):
        return OnDeviceFailure(
            "failed",
            f"{who} ran out of memory and did not {what}: {log.complaint()}. Set a smaller workspace.",
        )
    if ended.crashed:
        how = _signal(ended.code)
        return OnDeviceFailure("failed", f"{who} crashed ({how}) and did not {what}: {log.complaint()}.")
    kind = "refused" if any(REFUSALS.search(text) for text in log.errors) else "failed"
    return OnDeviceFailure(kind, f"{who} did not {what}: {log.complaint().rstrip('.')}.")


def _signal(code: int) -> str:
    number = -code if code < 0 else code - 128
    return {4: "illegal instruction", 6: "abort", 7: "bus error", 8: "arithmetic fault", 11: "segmentation fault"}.get(
        number, f"signal {number}"
    )
