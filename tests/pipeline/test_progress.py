"""What the user reads while the work goes on."""

import io

import pytest

from pipeline import progress
from pipeline.progress import Plain, Quiet, Terminal, cells, duration, progress_on

ROW = {
    "name": "prune", "reused": True, "accuracy": 0.9876, "parameters": 270_896, "macs": 41_000_000,
    "size_bytes": 1_098_765, "latency_p50_ms": 0.2716, "latency_p99_ms": None, "seconds": 75.2,
}  # fmt: skip


class Television(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_row_of_8_cells_is_rounded_and_a_missing_number_is_a_dash() -> None:
    assert cells(ROW) == {
        "": "prune (kept)", "acc %": "98.76", "params": "270,896", "MMACs": "41.00",
        "kB": "1099", "p50 ms": "0.272", "p99 ms": "–", "time": "1 min 15 s",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"), (4.26, "4.3 s"), (9.6, "9.6 s"), (10.4, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (75.2, "1 min 15 s"), (3600, "1 h 00 min"), (7290, "2 h 01 min"),
    ],
)  # fmt: skip
def test_9_durations_are_said_shortly(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_1_line_per_event_and_none_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress, "now_s", lambda: clock[0])
    stream = io.StringIO()
    said = progress_on(stream)
    assert isinstance(said, Plain)
    said.begin("distill")
    for second in range(1, 101):
        clock[0] = float(second)
        said.advance(second, 100, "training: epoch 1 of 1")
    said.say("a sentence")
    said.finish(ROW)
    said.close()
    lines = stream.getvalue().splitlines()
    # One step a second from second 1 on: 70, 40 and 10 are left when 30, 60 and 90 of 100 are done.
    assert lines[:4] == [
        "distill: started",
        "distill: training: epoch 1 of 1, 30 %, about 1 min 10 s left",
        "distill: training: epoch 1 of 1, 60 %, about 40 s left",
        "distill: training: epoch 1 of 1, 90 %, about 10 s left",
    ]
    assert lines[4] == "a sentence"
    assert lines[5].startswith("prune (kept) · acc % 98.76 · ")
    assert len(lines) == 6


def test_a_terminal_shows_2_rows_and_survives_every_order_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    stream = Television()
    said = progress_on(stream)
    assert isinstance(said, Terminal)
    said.advance(1, 2, "before any stage")
    said.begin("teacher")
    said.advance(1, 2, "training: epoch 1 of 2")
    said.finish(ROW | {"name": "teacher"})
    said.begin("[prune]")
    said.say("[not markup]")
    said.finish(ROW)
    said.close()
    said.close()
    shown = stream.getvalue()
    assert "[not markup]" in shown
    assert "98.76" in shown
    assert "\x1b[?25h" in shown  # the cursor is given back


def test_quiet_says_0_words(capsys: pytest.CaptureFixture[str]) -> None:
    said = Quiet()
    said.begin("a")
    said.advance(1, 2)
    said.say("b")
    said.finish(ROW)
    said.close()
    assert capsys.readouterr() == ("", "")
