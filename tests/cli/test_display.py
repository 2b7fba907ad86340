import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cli.display import (
    WIDTH_MIN,
    WORKERS_SHOWN,
    Bar,
    BestEffort,
    Lines,
    Silence,
    line,
    open_display,
    render,
    share,
)
from laminar.repartition.job import Snapshot
from laminar.repartition.protocol import Progress


def progress(rows=500, state="reading"):
    return Progress(state, 1, rows, rows * 10, rows * 100, rows // 2, 5 << 20, 300 << 20)


TWO = (progress(), None)


def snapshot(workers=TWO, phase="shuffling", rows_total=1000, seconds=2.0, silent_s=None):
    count = len(workers)
    silent_s = silent_s or (0.0,) * count
    return Snapshot(
        phase, seconds, rows_total, 10_000, 3, tuple(workers), (1,) * count, tuple(silent_s)
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_rows_bytes_rate_and_workers():
    head, first, second = render(snapshot(), 100)
    for part in (" 50%", "████████████░░░░░░░░░░░░", "500 rows", "4.9 KiB", "250 rows/s", "2.0 s"):
        assert part in head
    for part in ("worker 0", "reading", "read 500", "wrote 250", "sent 5.0 MiB", "300 MiB"):
        assert part in first
    assert "worker 1  starting" in second


def test_without_a_row_count_bytes_tell_how_far_it_is():
    assert share(snapshot(rows_total=None)) == 0.5
    assert share(snapshot(workers=[progress(2000)])) == 1.0
    starting = Snapshot("starting", 0.0, None, 0, 0, (None,), (1,), (0.0,))
    assert share(starting) is None
    assert "–" in render(starting, 80)[0]


@given(st.integers(0, 300), st.integers(0, 40), st.integers(0, 10**15))
def test_no_line_is_wider_than_the_terminal(width, workers, rows):
    lines = render(snapshot([progress(rows)] * workers), width)
    assert all(len(text) < max(width, WIDTH_MIN + 1) for text in lines)
    assert len(lines) <= WORKERS_SHOWN + 2


def test_plain_lines_have_no_control_characters_and_come_at_intervals():
    stream = io.StringIO()
    display = open_display(stream, quiet=False)
    assert isinstance(display, Lines)
    for phase in ("starting", "shuffling", "shuffling", "shuffling", "publishing"):
        display.show(snapshot(phase=phase))
    display.close()
    lines = stream.getvalue().splitlines()
    assert [text.split()[0].strip(":") for text in lines] == ["starting", "shuffling", "publishing"]
    assert "50%" in lines[1]
    assert stream.getvalue().replace("\n", "").isprintable()


def test_the_bar_redraws_in_place_and_erases_itself(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    display = open_display(stream, quiet=False)
    assert isinstance(display, Bar)
    display.show(snapshot())
    display._next = 0.0
    display.show(snapshot())
    display.close()
    display.close()
    text = stream.getvalue()
    assert text.count("\x1b[3F") == 2  # the second drawing and the erasing go up three lines
    assert text.endswith("\x1b[3F\x1b[0J")


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_quiet_and_dumb(monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    quiet = open_display(Terminal(), quiet=True)
    assert isinstance(quiet, Silence)
    quiet.show(snapshot())
    quiet.close()
    assert isinstance(open_display(Terminal(), quiet=False), Lines if term == "dumb" else Bar)


def test_plain_line_of_the_start():
    assert line(snapshot(phase="starting")) == "starting 2 workers, looking at the input"


def test_what_cannot_be_shown_is_not_shown():
    with open("/dev/full", "w", encoding="utf-8") as stream:
        display = BestEffort(open_display(stream, quiet=False), stream)
        display.show(snapshot(phase="starting"))
        display.show(snapshot())
        display.close()
        stream.write("this goes nowhere")


def test_a_silent_worker_is_shown():
    silent = snapshot(silent_s=(0.0, 7.0))
    assert render(silent, 80)[2] == "  worker 1  says nothing for 7.0 s"
    assert line(silent).endswith("2.0 s, worker 1 says nothing for 7.0 s")
    assert "nothing" not in "".join([line(snapshot()), *render(snapshot(), 80)])
