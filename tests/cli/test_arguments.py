import csv
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.cli.arguments import columns, utf8
from laminar.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b c ", ["a", "b c"]),
        ('"a,b",c', ["a,b", "c"]),
        ('" a "', [" a "]),
        (' "a" , b', ["a", "b"]),
        ('"say ""hi"""', ['say "hi"']),
        ('5" pipe,x', ['5" pipe', "x"]),
        ("a,,b", ["a", "", "b"]),
        ("a,", ["a", ""]),
        ("", [""]),
        ('""', [""]),
    ],
)
def test_columns(text, expected):
    assert columns(text) == expected


@pytest.mark.parametrize("text", ['"a', '"a"b', 'x,"a', '"a" b,c'])
def test_open_quotes_are_refused(text):
    with pytest.raises(ConfigError, match="--by has a quote"):
        columns(text)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0")), min_size=1))
def test_what_a_csv_writer_quotes_comes_back(names):
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(names)
    assert columns(line.getvalue()) == names


def test_words_are_utf8_whatever_the_locale(monkeypatch):
    assert utf8("ключ", "--by") == "ключ"
    with pytest.raises(ConfigError, match="--by is not UTF-8 text"):
        utf8(os.fsdecode(b"\xff"), "--by")
    monkeypatch.setattr(os, "fsencode", lambda word: word.encode("ascii", "surrogateescape"))
    assert utf8("ключ".encode().decode("ascii", "surrogateescape"), "--by") == "ключ"
