"""Coverage of what is not Python: pyarrow's own words count as places reached.

Atheris sees which Python branches ran, and pyarrow is one call. What it complains about tells
how far an input got, so each new complaint, digits aside, takes a branch of its own here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

PLACES = 512
_NUMBERS = re.compile(r"-?\d+|0x[0-9a-f]+|[^\x20-\x7e]+")


def _nowhere(place: int) -> None:
    """Outside the fuzzer nobody asks."""


_visit: Callable[[int], None] = _nowhere


def note(words: str) -> None:
    """An input made the library say ``words``."""
    _visit(zlib.crc32(_NUMBERS.sub("#", words).encode()) % PLACES)


def guide(instrument: Callable[[Callable[[int], None]], Callable[[int], None]]) -> None:
    """From now on :func:`note` reaches one of many branches, made visible by ``instrument``."""
    lines = ["def visit(place):"]
    for place in range(PLACES):
        lines += [f"    if place == {place}:", f"        return {place}"]
    space: dict[str, Callable[[int], None]] = {}
    exec("\n".join(lines), space)
    global _visit  # noqa: PLW0603 - the fuzzer runs alone in its process
    _visit = instrument(space["visit"])
