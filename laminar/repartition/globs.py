"""Local globs. Unlike the standard library's, they do not skip a folder that cannot be read."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

WILDCARD: Final = re.compile(r"[*?\[]")
ANY_DEPTH: Final = "**"


def matching(pattern: str) -> list[str]:
    """The files and folders that a pattern names, sorted.

    As in a shell ``*`` stays within one folder and does not match a leading dot; ``**`` is any
    number of folders. Raises ``OSError`` for a folder that has to be looked into and cannot.
    """
    path = PurePath(pattern)
    parts = path.parts[1:] if path.anchor else path.parts
    return sorted({found or "." for found in _below(path.anchor, list(parts))})


def _below(base: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield base
        return
    head, rest = parts[0], parts[1:]
    if head == ANY_DEPTH:
        yield from _below(base, rest)
        for name in _names(base):
            folder = os.path.join(base, name)
            if not name.startswith(".") and os.path.isdir(folder) and not _leads_back(folder):
                yield from _below(folder, parts)
    elif WILDCARD.search(head):
        for name in _names(base):
            hidden = name.startswith(".") and not head.startswith(".")
            if fnmatch.fnmatchcase(name, head) and not hidden:
                yield from _below(os.path.join(base, name), rest)
    else:
        path = os.path.join(base, head)
        if _exists(path):
            yield from _below(path, rest)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except (FileNotFoundError, NotADirectoryError):  # then nothing there matches
        return []


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _leads_back(folder: str) -> bool:
    """Whether a folder is a link to one that holds it."""
    if not os.path.islink(folder):
        return False
    target = os.path.realpath(folder)
    here = os.path.realpath(os.path.dirname(folder) or ".")
    return here == target or here.startswith(target.rstrip(os.sep) + os.sep)
