"""A device: jobs are done there, files go over and come back.

A job is a word (`targets/on_device/main.py` lists them), a piece of JSON and files. Nothing is sent twice. When the
link is lost the device is waited for, and the job is handed in once more: one that had finished meanwhile is not done
again. What stays there are the files that were sent; `clean` removes them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any

from targets.errors import (
    DeviceLost,
    DeviceMissing,
    EngineFailed,
    EngineMissing,
    EngineRefused,
    TargetsError,
)
from targets.reach.address import address_from
from targets.reach.blobs import OnEvent, bring_back, checked_name, content_of, full, send
from targets.reach.conversation import Conversation
from targets.reach.device_part import packed
from targets.reach.openssh import OpenSsh
from targets.reach.order import Order
from targets.reach.transport import Transport
from targets.stopwatch import now_s

PATIENCE_S = 180.0  # how long a device that went away is waited for: a Jetson starts in one to two minutes
FACTS_LIMIT_S = 120.0
PART = "on_device.pyz"
NOTHING_LOST = "Nothing already computed is lost: the same command goes on from there."


def connect(
    address: str, *, config: Path | None = None, patience_s: float = PATIENCE_S, part: bytes | None = None
) -> "Device":
    """The device at an address; nothing goes over before it is asked for something.

    config: the file of named devices. part: what runs there in place of our own device part

    Raises:
        DeviceMissing: the address makes no sense, or nothing is named so.
    """
    where = address_from(address, config=config)
    return Device(OpenSsh(where), address=address, patience_s=patience_s, part=part)


class Device:
    """Close it when done, or use it as a context manager.

    patience_s: how long it is waited for when the link is lost; 0 for not at all
    listener: who hears what jobs say, where nobody else is named
    """

    def __init__(
        self, transport: Transport, *, address: str, patience_s: float = PATIENCE_S, part: bytes | None = None
    ) -> None:
        self.address = address
        self.transport = transport
        self.patience_s = patience_s
        self._part = content_of(PART, packed() if part is None else part)
        self.listener: OnEvent | None = None
        self._facts: dict[str, Any] | None = None
        self._reached = False

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    def facts(self) -> dict[str, Any]:
        """What the device says of itself; asked once."""
        if self._facts is None:
            self._facts = self.job("facts", {}, files={}, limit_s=FACTS_LIMIT_S)
        return self._facts

    def job(
        self,
        what: str,
        job: Mapping[str, Any],
        *,
        files: Mapping[str, Path],
        fetch: Sequence[str] = (),
        into: Path | None = None,
        limit_s: float,
        on_event: OnEvent | None = None,
    ) -> dict[str, Any]:
        """Do a job there; its result.

        files: name in the job's folder → file here. fetch: names in the job's folder to bring back `into` a folder, "*"
        for all that the result lists under "files". limit_s: the job alone, without what goes over and comes back

        Raises:
            DeviceMissing: it cannot be reached, or our part cannot run there.
            DeviceLost: the link was lost and did not come back, or the time is over.
            DeviceFull: no space is left there.
            EngineMissing, EngineRefused, EngineFailed: what the job itself says.
        """
        if fetch and into is None:
            raise ValueError("files are fetched into a folder: name one")
        contents = [content_of(checked_name(name), path) for name, path in files.items()]
        order = Order(what, dict(job), [*contents, self._part], tuple(fetch), into, limit_s)
        tell = on_event or self.listener or _silent
        try:
            ended = self._attempt(order, tell)
        except DeviceLost as lost:
            self._wait(lost, tell)
            try:
                ended = self._attempt(order, tell)
            except DeviceLost as again:
                raise DeviceLost(f"{again} It was the second time. {NOTHING_LOST}") from again
        if ended["how"] != "done":
            raise self._failure(what, limit_s, ended)
        result: dict[str, Any] = ended["result"]
        return result

    def left(self) -> dict[str, Any]:
        """What we have left there: folder, files, bytes, jobs, free_bytes."""
        found: dict[str, Any] = self._call("show")["left"]
        return found

    def clean(self) -> dict[str, Any]:
        """Remove it: freed_bytes, and busy, the number of jobs and files that others are at work with."""
        return self._call("clean")

    def _call(self, do: str) -> dict[str, Any]:
        try:
            with Conversation(self.transport, {"do": do}) as talk:
                event = talk.event()
        except DeviceLost as lost:
            raise DeviceMissing(str(lost)) from lost
        self._reached = True
        if event["event"] == "failed":
            raise self._not_kept(event)
        return event

    def _attempt(self, order: Order, tell: OnEvent) -> dict[str, Any]:
        """From the files to the result, once."""
        by_digest = {content.sha256: content for content in order.contents}
        with Conversation(self.transport, order.request()) as talk:
            self._reached = True
            while (event := talk.event())["event"] == "lacking":
                send(talk, [by_digest[digest] for digest in event["sha256"]], tell)
            if event["event"] == "begins":
                talk.wait_for_a_job(limit_s=order.limit_s)
                event = talk.event()
            return self._follow(talk, event, order, tell)

    def _follow(self, talk: Conversation, event: dict[str, Any], order: Order, tell: OnEvent) -> dict[str, Any]:
        """Pass on what a running job says, to its end, and bring its files back."""
        while event["event"] not in ("ended", "failed"):
            tell(event)
            event = talk.event()
        if event["event"] == "failed":
            raise self._not_kept(event)
        if event["how"] == "gone":
            raise DeviceLost(f"{self.transport.shown} heard nothing from us for a while, and stopped the job.")
        if event["how"] == "done":
            if event["before"]:
                tell({"event": "says", "text": "the job had ended there before; its result is fetched now"})
            for name in order.wanted(event["result"]):
                assert order.into is not None
                bring_back(talk, name, order.into)
            talk.ask({"give": None})
        return event

    def _wait(self, lost: DeviceLost, tell: OnEvent) -> None:
        """Until the device answers again.

        Raises:
            DeviceLost: it does not.
            DeviceMissing: it never did, or does not let us in any more.
        """
        shown, pause, turns = self.transport.shown, Event(), 0
        if not self._reached:
            raise DeviceMissing(str(lost)) from lost
        if not self.patience_s:
            raise DeviceLost(f"{lost} {NOTHING_LOST}") from lost
        text = f"{lost} It is waited for, up to {self.patience_s:.0f} s; then the job is handed in once more."
        tell({"event": "says", "text": text})
        until_s = now_s() + self.patience_s
        while turns == 0 or now_s() < until_s:
            turns += 1
            self.transport.forget()
            try:
                with Conversation(self.transport, {"do": "hello"}):
                    tell({"event": "says", "text": f"{shown} answers again"})
                    return
            except DeviceLost:
                pause.wait(2)
        raise DeviceLost(
            f"{shown} went away in the middle of a job, and did not come back within {self.patience_s:.0f} s. "
            f"{NOTHING_LOST}"
        ) from lost

    def _not_kept(self, event: Mapping[str, Any]) -> TargetsError:
        if event.get("kind") == "full":
            return full(self.transport.shown, str(event.get("sentence")))
        return DeviceMissing(
            f"{self.transport.shown}: our folder {self.transport.folder} there cannot be used: {event.get('sentence')} "
            "Name another one in the file of devices (folder = …)."
        )

    def _failure(self, what: str, limit_s: float, ended: Mapping[str, Any]) -> TargetsError:
        """What a job that left no result says, as an exception."""
        shown = self.transport.shown
        if ended["how"] == "late":
            return DeviceLost(
                f"The job {what!r} on {shown} took longer than {limit_s:g} s and was stopped there. {NOTHING_LOST}"
            )
        if ended["how"] == "died":
            said = (str(ended["stderr"]).strip().splitlines() or ["it wrote nothing"])[-1]
            return EngineFailed(f"{shown}: the job {what!r} ended with code {ended['code']}: {said[:240]}")
        if ended["kind"] == "full":
            return full(shown, str(ended["sentence"]))
        kinds: dict[str, type[TargetsError]] = {"missing": EngineMissing, "refused": EngineRefused}
        return kinds.get(ended["kind"], EngineFailed)(f"{shown}: {ended['sentence']}")


def _silent(event: dict[str, Any]) -> None:
    """For who does not listen."""
