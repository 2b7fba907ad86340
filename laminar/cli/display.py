"""Progress: a bar that redraws itself on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from typing import Final, Protocol, TextIO

from laminar.cli.streams import give_up
from laminar.cli.text import count, duration, plural, rate, size
from laminar.repartition.job import Snapshot
from laminar.repartition.protocol import Progress

REDRAW_INTERVAL_S: Final = 0.1
LINE_INTERVAL_S: Final = 2.0
BAR_WIDTH: Final = 24
WORKERS_SHOWN: Final = 16
WIDTH_MIN: Final = 20


class Display(Protocol):
    """Shows snapshots of a job; :meth:`close` leaves the terminal as it was."""

    def show(self, snapshot: Snapshot) -> None:
        """Show this, unless something was shown just now."""

    def close(self) -> None:
        """Remove what redraws itself."""


def open_display(stream: TextIO, *, quiet: bool) -> Display:
    """The display that fits the stream."""
    if quiet:
        return Silence()
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Bar(stream)
    return Lines(stream)


class Silence:
    """Shows nothing."""

    def show(self, snapshot: Snapshot) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class BestEffort:
    """Shows on another display for as long as that can be written; no job fails for it."""

    def __init__(self, display: Display, stream: TextIO) -> None:
        self._display = display
        self._stream = stream

    def show(self, snapshot: Snapshot) -> None:
        """Show it there, or from now on nothing."""
        try:
            self._display.show(snapshot)
        except OSError:
            self._stop()

    def close(self) -> None:
        """Close the other display."""
        try:
            self._display.close()
        except OSError:
            self._stop()

    def _stop(self) -> None:
        self._display = Silence()
        give_up(self._stream)


class Lines:
    """A line every few seconds, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = 0.0
        self._phase = ""

    def show(self, snapshot: Snapshot) -> None:
        """Print a line when the phase has changed or it is time."""
        now = time.monotonic()
        if snapshot.phase == self._phase and now < self._next:
            return
        self._phase, self._next = snapshot.phase, now + LINE_INTERVAL_S
        print(line(snapshot), file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to remove."""


class Bar:
    """The bar and the workers' states, redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = 0.0
        self._drawn = 0

    def show(self, snapshot: Snapshot) -> None:
        """Redraw, not more often than the eye can follow."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + REDRAW_INTERVAL_S
        terminal = shutil.get_terminal_size()
        lines = render(snapshot, terminal.columns)[: max(1, terminal.lines - 1)]
        body = "".join(f"\x1b[2K{text}\n" for text in lines)
        self._stream.write(self._home() + "\x1b[0J" + body)
        self._stream.flush()
        self._drawn = len(lines)

    def close(self) -> None:
        """Erase the bar; the summary takes its place."""
        if self._drawn:
            self._stream.write(self._home() + "\x1b[0J")
            self._stream.flush()
            self._drawn = 0

    def _home(self) -> str:
        return f"\x1b[{self._drawn}F" if self._drawn else ""


def share(snapshot: Snapshot) -> float | None:
    """How much of the input has been read, 0 to 1; None while that is unknown."""
    if snapshot.rows_total:
        return min(1.0, snapshot.rows_read / snapshot.rows_total)
    if snapshot.bytes_total:
        return min(1.0, snapshot.bytes_read / snapshot.bytes_total)
    return None


def line(snapshot: Snapshot) -> str:
    """The state of a job in one plain line."""
    if snapshot.phase == "starting":
        return f"starting {plural(len(snapshot.workers), 'worker')}, looking at the input"
    silent = "".join(
        f", worker {number} says nothing for {duration(seconds)}"
        for number, seconds in enumerate(snapshot.silent_s)
        if seconds
    )
    done = share(snapshot)
    percent = "" if done is None else f"{done:4.0%}, "
    return (
        f"{snapshot.phase}: {percent}{count(snapshot.rows_read)} rows read "
        f"({size(snapshot.bytes_read)} of {size(snapshot.bytes_total)}), "
        f"{count(snapshot.rows_written)} written, {duration(snapshot.seconds)}{silent}"
    )


def render(snapshot: Snapshot, width: int) -> list[str]:
    """The lines of the bar and of the workers, none wider than ``width`` columns."""
    done = share(snapshot)
    filled = round(BAR_WIDTH * (done or 0.0))
    bar = "█" * filled + "░" * (BAR_WIDTH - filled)
    percent = "   –" if done is None else f"{done:4.0%}"
    speed = snapshot.rows_read / snapshot.seconds if snapshot.seconds > 0 else 0.0
    head = (
        f"{percent} {bar} {count(snapshot.rows_read)} rows  {size(snapshot.bytes_read)}  "
        f"{rate(speed)}  {duration(snapshot.seconds)}"
    )
    if snapshot.phase != "shuffling":
        head += f"  {snapshot.phase}"
    lines = [head]
    shown = zip(snapshot.workers[:WORKERS_SHOWN], snapshot.silent_s, strict=False)
    for number, (worker, silent_s) in enumerate(shown):
        state = f"says nothing for {duration(silent_s)}" if silent_s else worker_state(worker)
        lines.append(f"  worker {number}  {state}")
    hidden = len(snapshot.workers) - WORKERS_SHOWN
    if hidden > 0:
        lines.append(f"  and {plural(hidden, 'more worker')}")
    return [_fit(text, max(WIDTH_MIN, width - 1)) for text in lines]


def worker_state(worker: Progress | None) -> str:
    """What one worker does, in words."""
    if worker is None:
        return "starting"
    return (
        f"{worker.state:<19}  read {count(worker.rows_read)}  wrote {count(worker.rows_written)}  "
        f"sent {size(worker.bytes_sent)}  memory {size(worker.rss_bytes)}"
    )


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
