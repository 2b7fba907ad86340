import dataclasses

import pytest

from laminar.cli.text import (
    count,
    duration,
    one_line,
    plural,
    printable,
    rate,
    size,
    summary_lines,
    table,
)
from laminar.repartition.job import Summary


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (31.2 * 2**20, "31.2 MiB"),
        (512 << 20, "512 MiB"),
        (3 << 29, "1.5 GiB"),
        (5000 << 40, "5,000 TiB"),
    ],
)
def test_size(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (2_069_384, "2.1 M rows/s"),
        (350_000, "350 k rows/s"),
        (9_876, "9,876 rows/s"),
        (0, "0 rows/s"),
    ],
)
def test_rate(number, text):
    assert rate(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (2.94, "2.9 s"), (64, "1:04"), (7207, "2:00:07")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_numbers_of_things():
    assert count(6_001_215) == "6,001,215"
    assert [plural(n, "file") for n in (0, 1, 1600)] == ["0 files", "1 file", "1,600 files"]


def test_the_summary_says_it_all():
    summary = Summary(
        rows=6_001_215,
        seconds=2.9,
        rows_per_second=2_069_384.5,
        bytes_shuffled=900 << 20,
        bytes_sent=450 << 20,
        bytes_written=200 << 20,
        workers=2,
        partitions=16,
        peak_rss_bytes=500 << 20,
        output="out",
        notes=(),
    )
    text = "\n".join(summary_lines(summary))
    assert "6,001,215 rows in 16 partitions in 2.9 s (2.1 M rows/s)" in text
    assert "shuffled 900 MiB of rows, 450 MiB on the wire between 2 workers\n" in text
    for part in ("200 MiB to out", "largest worker 500 MiB"):
        assert part in text
    alone = dataclasses.replace(summary, workers=1, bytes_sent=0)
    assert "shuffled 900 MiB of rows\n" in "\n".join(summary_lines(alone))


def test_text_of_others_cannot_move_the_cursor():
    assert printable("naïve 10.0.0.1:1") == "naïve 10.0.0.1:1"
    assert printable("a\x1b[2Jb\n\u202e") == "a\\x1b[2Jb\\n\\u202e"


def test_cells_are_below_one_another():
    assert table([("ID", "STATE"), ("abc", "up"), ("b", "")]) == ["ID   STATE", "abc  up", "b"]


def test_an_error_is_one_line_whatever_it_quotes():
    assert one_line(ValueError("a\nb  c")) == "a b c"
