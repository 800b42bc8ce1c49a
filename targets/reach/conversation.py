"""One call of the keeper on a device: a request goes over, events come back, and files either way.

While a job runs, a blank line goes over every few seconds: the other side stops the job when it hears nothing. Leaving
it early (an error here, Ctrl-C) ends the keeper's standard input, which stops the job too; it is given the time to put
back what it changed.
"""

import json
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from targets.errors import DeviceLost, DeviceMissing
from targets.reach.device_part import keeper
from targets.reach.transport import Finished, Transport
from targets.stopwatch import now_s

SIGN_OF_LIFE_S = 5
ANSWERS_WITHIN_S = 60  # from the start of the program that connects to the keeper's first word
STOPS_WITHIN_S = 12  # the keeper's own grace of 8 s, and the way there
NO_SUCH_PROGRAM = 127  # what a shell ends with


class Conversation:
    """A context manager around one call.

    request: what the keeper is told; a link on which nothing comes back is given up by the transport itself
    """

    def __init__(self, transport: Transport, request: Mapping[str, Any]) -> None:
        self.transport = transport
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would be held open by a shared connection
        self._writing, self._over = threading.Lock(), threading.Event()
        self._shows_life = False
        self._until_s: float | None = now_s() + ANSWERS_WITHIN_S
        self._here = False
        self.process = transport.start(errors=self._errors.fileno())
        asked = {"folder": transport.folder, "python": transport.python, **request}
        self.send(keeper() + json.dumps(asked).encode() + b"\n")

    def __enter__(self) -> "Conversation":
        threading.Thread(target=self._keep_up, daemon=True).start()
        try:
            while self._event_or_none() != {"event": "here"}:  # what a login shell says first is passed over
                pass
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self._here = True
        self._until_s = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self._over.set()
        with self._writing, _without_sigpipe(), suppress(OSError):
            self.process.stdin.close()
        drain = threading.Thread(target=self._drain, daemon=True)
        drain.start()
        try:
            drain.join(STOPS_WITHIN_S)
        finally:
            self.process.kill()
            self.process.wait()
            self._errors.close()

    def event(self) -> dict[str, Any]:
        """The next thing the other side says.

        Raises:
            DeviceLost: the link was cut.
            DeviceMissing: our part cannot be started there, or nobody lets us in.
        """
        while True:
            event = self._event_or_none()
            if event is not None:
                if event["event"] == "ended":
                    self._until_s = None  # what comes back now may take as long as the link is slow
                return event

    def wait_for_a_job(self, *, limit_s: float) -> None:
        """A job begins now: show signs of life. It is stopped over there when its time is over; this is in reserve."""
        self._until_s = now_s() + limit_s + ANSWERS_WITHIN_S
        self._shows_life = True

    def read(self, count: int) -> bytes:
        """At most so many bytes of a file that comes back; raises like `event`."""
        assert self.process.stdout is not None
        chunk = self.process.stdout.read(count)
        if not chunk:
            raise self._why_it_ended()
        return chunk

    def send(self, content: bytes) -> bool:
        """Whether it could be sent; where not, the next event says why."""
        assert self.process.stdin is not None
        with self._writing, _without_sigpipe():
            try:
                self.process.stdin.write(content)
                self.process.stdin.flush()
            except (OSError, ValueError):  # ValueError: closed
                return False
        return True

    def ask(self, request: Mapping[str, Any]) -> None:
        """A line of JSON."""
        self.send(json.dumps(request).encode() + b"\n")

    def _event_or_none(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self._why_it_ended()
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                return event
        return None

    def _why_it_ended(self) -> Exception:
        shown, python = self.transport.shown, self.transport.python
        try:
            code = self.process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            return DeviceLost(f"The link to {shown} was lost.")
        self._errors.seek(0)
        finished = Finished(code, self._errors.read().decode("utf-8", "replace"))
        if self.transport.is_cut(finished):
            if self._here:
                return DeviceLost(f"The link to {shown} was lost.")
            refusal = self.transport.refusal(finished)
            return refusal or DeviceLost(str(self.transport.unreachable(finished)))
        lines = [line.strip() for line in finished.said.splitlines() if line.strip()]
        for line in lines:
            if line.startswith("PYTHON "):
                return DeviceMissing(
                    f"{shown}: `{python}` there is Python {line.split()[1]}; 3.8 or later is needed. Name a newer one "
                    "in the file of devices (python = …)."
                )
        if code == NO_SUCH_PROGRAM or any("not found" in line for line in lines[-1:]):
            return DeviceMissing(
                f"{shown}: there is no `{python}` there. Install Python 3.8 or later, or name the one there is in the "
                "file of devices (python = …)."
            )
        said = lines[-1] if lines else f"`{python}` ended with code {code}"
        return DeviceLost(f"{shown}: our part there ended by itself: {said.rstrip('.')}.")

    def _keep_up(self) -> None:
        """Signs of life while there is a job; an end to a program that hangs."""
        while not self._over.wait(SIGN_OF_LIFE_S):
            if self._until_s is not None and now_s() > self._until_s:
                self.process.kill()
                return
            if self._shows_life:
                self.send(b"\n")

    def _drain(self) -> None:
        assert self.process.stdout is not None
        with suppress(OSError, ValueError):
            while self.process.stdout.read(1 << 16):
                pass


@contextmanager
def _without_sigpipe() -> Iterator[None]:
    """Writing to a program that has ended fails, and does not end us: the command line lets SIGPIPE do that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        while signal.SIGPIPE in signal.sigpending():
            signal.sigtimedwait({signal.SIGPIPE}, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
