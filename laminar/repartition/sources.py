"""From what the user named to a list of files: folders, globs and URIs are expanded here."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.fs as pafs

from laminar.errors import InputError
from laminar.repartition.globs import WILDCARD, matching
from laminar.repartition.plan import SourceFormat

EXTENSIONS: Final[dict[str, SourceFormat]] = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".csv.gz": "csv",
}

_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file: a local path or a URI, as a user would recognise it."""

    name: str
    format: SourceFormat
    size_bytes: int


def is_uri(name: str) -> bool:
    """Whether ``name`` is a URI rather than a local path."""
    return _URI.match(name) is not None


def reason(error: BaseException) -> str:
    """The first line of an error of Arrow or the operating system, without its noise."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def locate(name: str) -> tuple[pafs.FileSystem, str]:
    """The file system and the path on it of a file's name.

    Raises :class:`~laminar.errors.InputError` for a URI that Arrow cannot open.
    """
    if not is_uri(name):
        return pafs.LocalFileSystem(), os.path.abspath(name)
    try:
        filesystem, path = pafs.FileSystem.from_uri(name)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{name}: not a location Arrow can open: {reason(error)}") from error
    return filesystem, path


def local_path(name: str) -> str | None:
    """The path of a file or folder on this machine; None for a URI of somewhere else."""
    if not is_uri(name):
        return name
    if not name.lower().startswith("file:"):
        return None
    return locate(name)[1]


def find_sources(inputs: Iterable[str]) -> list[SourceFile]:
    """All files the inputs name, each once, in the order of the inputs and sorted within one.

    Raises :class:`~laminar.errors.InputError` when an input does not exist or holds no file
    of a known format.
    """
    found: dict[str, SourceFile] = {}
    for given in inputs:
        files = list(_expand_uri(given) if is_uri(given) else _expand_local(given))
        if not files:
            known = " ".join(EXTENSIONS)
            raise InputError(f"{given}: no input file there (looked for {known})")
        for file in files:
            found.setdefault(_identity(file.name), file)
    return list(found.values())


def _identity(name: str) -> str:
    return name if is_uri(name) else os.path.realpath(name)


def _format_of(name: str) -> SourceFormat | None:
    lowered = name.lower()
    return next((kind for end, kind in EXTENSIONS.items() if lowered.endswith(end)), None)


def _named_file(name: str, path: str, size_bytes: int) -> SourceFile:
    kind = _format_of(path)
    if kind is None:
        raise InputError(f"{name}: unknown kind of file (known are {' '.join(EXTENSIONS)})")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{os.fsencode(name)!r}: the name is not UTF-8, and Arrow opens no other: rename it"
        ) from error
    return SourceFile(name, kind, size_bytes)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _expand_local(given: str) -> Iterator[SourceFile]:
    if not os.path.lexists(given) and WILDCARD.search(given):
        try:
            matches = matching(given)
        except OSError as error:
            raise InputError(f"{error.filename}: {reason(error)}") from error
        for match in matches:
            if os.path.isdir(match):
                yield from _walk(match)
            elif _format_of(match) is not None:
                yield _named_file(match, match, _local_size(match))
        return
    if os.path.isdir(given):
        yield from _walk(given)
        return
    yield _named_file(given, given, _local_size(given))


def _local_size(path: str) -> int:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe can be read once, and might wait for ever
        raise InputError(f"{path}: not a regular file")
    return status.st_size


def _walk(folder: str) -> Iterator[SourceFile]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {reason(error)}") from error

    for where, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(files):
            path = os.path.join(where, name)
            if not _is_hidden(name) and _format_of(name) is not None:
                yield _named_file(path, path, _local_size(path))


def _expand_uri(given: str) -> Iterator[SourceFile]:
    scheme, _, rest = given.partition("://")
    rest, question, query = rest.partition("?") if scheme != "file" else (rest, "", "")
    wildcard = WILDCARD.search(rest)
    base = rest if wildcard is None else rest[: wildcard.start()].rpartition("/")[0] or "/"
    filesystem, root = locate(f"{scheme}://{base}{question}{query}")
    try:
        info = filesystem.get_file_info(root)
        if info.type == pafs.FileType.NotFound:
            raise InputError(f"{given}: not found")
        if info.type == pafs.FileType.File:
            yield _named_file(given, root, info.size)
            return
        listed = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{given}: {reason(error)}") from error
    pattern = None if wildcard is None else rest[len(base) :].strip("/")
    for entry in sorted(listed, key=lambda entry: entry.path):
        relative = PurePosixPath(entry.path).relative_to(PurePosixPath(root))
        if entry.type != pafs.FileType.File or _format_of(entry.path) is None:
            continue
        if pattern is None and any(_is_hidden(part) for part in relative.parts):
            continue
        if pattern is not None and not _matches(relative, PurePosixPath(pattern)):
            continue
        name = f"{scheme}://{base.rstrip('/')}/{relative}{question}{query}"
        yield _named_file(name, entry.path, entry.size)


def _matches(path: PurePosixPath, pattern: PurePosixPath) -> bool:
    """Like a shell: ``*`` stays within one folder, ``**`` crosses folders."""
    return _match_parts(list(path.parts), list(pattern.parts))


def _match_parts(path: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        return any(_match_parts(path[skip:], rest) for skip in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], head) and _match_parts(path[1:], rest)
