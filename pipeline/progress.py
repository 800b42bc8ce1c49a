"""What the user sees on stderr while the work goes on.

On a terminal: a bar for the stage at work with its remaining time, and one table that grows by a row per stage.
Elsewhere (a log file, CI): one plain line when a stage begins, one every half minute, one when it ends.
"""

import sys
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from targets.stopwatch import now_s

PLAIN_EVERY_S = 30.0


class Progress(Protocol):
    """Where the work says how far it is."""

    def begin(self, stage: str) -> None:
        """A stage begins."""
        ...

    def advance(self, done: float, total: float, note: str = "") -> None:
        """`done` of `total` steps of the stage's present task are done."""
        ...

    def say(self, text: str) -> None:
        """A sentence the user should read."""
        ...

    def finish(self, row: Mapping[str, Any]) -> None:
        """A stage is finished; `row` is its row of the result."""
        ...

    def close(self) -> None:
        """No more is said; the terminal is given back."""
        ...


class Pace:
    """How long a stage's present task will still take, from the steps of that task alone."""

    def __init__(self) -> None:
        self.task = ""
        self.seen_s = 0.0
        self.spent_s: dict[str, float] = {}
        self.first: dict[str, float] = {}

    def left_s(self, task: str, done: float, total: float) -> float | None:
        """Seconds left; None until two steps of the task were seen. Time between two tasks belongs to neither."""
        now = now_s()
        self.first.setdefault(task, done)
        if task == self.task:
            self.spent_s[task] = self.spent_s.get(task, 0.0) + now - self.seen_s
        self.task, self.seen_s = task, now
        steps = done - self.first[task]
        return self.spent_s[task] / steps * (total - done) if steps > 0 and task in self.spent_s else None


def task_of(note: str) -> str:
    """`training: epoch 3 of 8` → `training`."""
    return note.split(":")[0]


class Quiet:
    """Says nothing: for processes that follow and for tests."""

    def begin(self, stage: str) -> None: ...

    def advance(self, done: float, total: float, note: str = "") -> None: ...

    def say(self, text: str) -> None: ...

    def finish(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Plain:
    """Lines for a log."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.stage = ""
        self.pace = Pace()
        self.spoke_s = 0.0

    def _line(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()

    def begin(self, stage: str) -> None:
        self.stage, self.pace, self.spoke_s = stage, Pace(), now_s()
        self._line(f"{stage}: started")

    def advance(self, done: float, total: float, note: str = "") -> None:
        left_s = self.pace.left_s(task_of(note), done, total)
        if now_s() - self.spoke_s < PLAIN_EVERY_S:
            return
        self.spoke_s = now_s()
        left = "" if left_s is None else f", about {duration(left_s)} left"
        self._line(f"{self.stage}: {note}, {100 * done / total:.0f} %{left}")

    def say(self, text: str) -> None:
        self._line(text)

    def finish(self, row: Mapping[str, Any]) -> None:
        self._line(" · ".join(f"{name} {text}" if name else text for name, text in cells(row).items()))

    def close(self) -> None: ...


class Terminal:
    """A live table with a bar below it."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream)
        self.rows: list[Mapping[str, Any]] = []
        self.bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[left]:>12}"), TextColumn("{task.fields[note]}"), console=self.console,
        )  # fmt: skip
        self.task: TaskID | None = None
        self.pace = Pace()
        self.live = Live(self._draw(), console=self.console, refresh_per_second=4)
        self.live.start()

    def _draw(self) -> Group:
        return Group(self._table(), self.bar) if self.rows else Group(self.bar)

    def _table(self) -> Table:
        table = Table()
        for name in cells(self.rows[0]):
            table.add_column(name or "stage", justify="left" if not name else "right")
        for row in self.rows:
            table.add_row(*cells(row).values())
        return table

    def _end_task(self) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = None

    def begin(self, stage: str) -> None:
        self._end_task()
        self.task, self.pace = self.bar.add_task(stage, total=None, note="", left=""), Pace()

    def advance(self, done: float, total: float, note: str = "") -> None:
        if self.task is None:
            return
        left_s = self.pace.left_s(task_of(note), done, total)
        left = "" if left_s is None else f"{duration(left_s)} left"
        self.bar.update(self.task, completed=done, total=total, note=note, left=left)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def finish(self, row: Mapping[str, Any]) -> None:
        self._end_task()
        self.rows.append(row)
        self.live.update(self._draw())

    def close(self) -> None:
        self._end_task()
        self.live.stop()


def progress_on(stream: TextIO | None = None) -> Progress:
    """The progress that fits the stream (stderr when none is given)."""
    stream = stream or sys.stderr
    return Terminal(stream) if stream.isatty() else Plain(stream)


METRICS = {"fidelity": "fidelity %"}  # the heads of the column of scores, where it is not accuracy


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """One stage's row of the result as short texts; what was not measured is a dash."""

    def number(name: str, form: str, factor: float = 1.0) -> str:
        value = row.get(name)
        return "–" if value is None else format(value * factor, form)

    return {
        "": str(row["name"]) + (" (kept)" if row.get("reused") else ""),
        METRICS.get(str(row.get("metric")), "acc %"): number("accuracy", ".2f", 100),
        "params": number("parameters", ",.0f"),
        "MMACs": number("macs", ".2f", 1e-6),
        "kB": number("size_bytes", ".0f", 1e-3),
        "p50 ms": number("latency_p50_ms", ".3f"),
        "p99 ms": number("latency_p99_ms", ".3f"),
        "time": duration(row.get("seconds") or 0.0),
    }


def duration(seconds: float) -> str:
    """`75.2` → `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
