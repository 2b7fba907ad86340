"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from laminar.repartition.job import Summary

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")


def count(number: float) -> str:
    """``6,001,215``."""
    return f"{round(number):,}"


def size(number: float) -> str:
    """``512 bytes``, ``31.2 MiB``, ``1.4 GiB``."""
    if number < 1024:
        return f"{round(number)} bytes"
    for unit in _UNITS:
        number /= 1024
        if number < 1024 or unit == _UNITS[-1]:
            break
    return f"{number:,.1f} {unit}" if number < 100 else f"{number:,.0f} {unit}"


def rate(rows_per_second: float) -> str:
    """``2.1 M rows/s``, ``350 k rows/s``, ``12 rows/s``."""
    if rows_per_second >= 1e6:
        return f"{rows_per_second / 1e6:.1f} M rows/s"
    if rows_per_second >= 1e4:
        return f"{rows_per_second / 1e3:.0f} k rows/s"
    return f"{count(rows_per_second)} rows/s"


def duration(seconds: float) -> str:
    """``2.9 s`` below a minute, ``1:04`` and ``2:00:07`` above."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(number: int, noun: str) -> str:
    """``1 file``, ``16 files``."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def summary_lines(summary: Summary) -> list[str]:
    """What a finished job tells its user."""
    rows = plural(summary.rows, "row")
    head = f"{rows} in {plural(summary.partitions, 'partition')} in {duration(summary.seconds)}"
    # Not a part of the former: small batches are smaller in memory than with what frames them.
    wire = f", {size(summary.bytes_sent)} on the wire between {plural(summary.workers, 'worker')}"
    return [
        f"{head} ({rate(summary.rows_per_second)})",
        f"  shuffled {size(summary.bytes_shuffled)} of rows{wire if summary.workers > 1 else ''}",
        f"  wrote {size(summary.bytes_written)} to {summary.output}",
        f"  largest worker {size(summary.peak_rss_bytes)}",
    ]


def one_line(error: Exception) -> str:
    """What an error says, whatever it quotes."""
    return " ".join(str(error).split())


def printable(text: str) -> str:
    """Text of others, with nothing in it that a terminal obeys."""
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, their cells below one another; nothing behind the last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
