"""From the words of a command line to text: encodings, and lists of columns."""

from __future__ import annotations

import os
import re

from laminar.errors import ConfigError

_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*(,|$)')
_PLAIN = re.compile(r"([^,]*)(,|$)")


def utf8(word: str, option: str) -> str:
    """A word of the command line, which Python has decoded by the locale, as UTF-8 text.

    Raises :class:`~laminar.errors.ConfigError` when it is not UTF-8.
    """
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{option} is not UTF-8 text: {os.fsencode(word)!r}") from error


def columns(text: str) -> list[str]:
    """The columns of one ``--by``: a line of CSV, where only quotes keep commas and spaces.

    ``a, b`` are ``a`` and ``b``; ``"a, b"`` (with the quotes) is one column, and ``""`` in
    quotes is a quote. Raises :class:`~laminar.errors.ConfigError` for an open quote.
    """
    found: list[str] = []
    position = 0
    while True:
        quoted = text[position:].lstrip().startswith('"')
        match = (_QUOTED if quoted else _PLAIN).match(text, position)
        if match is None:
            raise ConfigError(f"--by has a quote that does not end before a comma: {text}")
        found.append(match[1].replace('""', '"') if quoted else match[1].strip())
        if not match[2]:
            return found
        position = match.end()
