"""Folders named ``day=3``: their keys are columns, as Hive and many after it lay data out.

Like in ``pyarrow.dataset`` the columns follow those of the files, values that are integers in
all files make an integer column and others text, names and values may be percent-encoded, and
one name stands for null. Unlike there, a column that the files have themselves is left to them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import pyarrow as pa

from laminar.errors import InputError

Keys: TypeAlias = tuple[tuple[str, str | None], ...]
"""Columns and values of one file's folders; None is null."""

NULL: Final = "__HIVE_DEFAULT_PARTITION__"

_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def keys_of(name: str) -> Keys:
    """The keys in the name of a file, a path or URI as its user gave it."""
    path = name.partition("?")[0] if "://" in name else name
    found: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        match = _FOLDER.fullmatch(folder)
        if match:
            found[unquote(match[1])] = None if match[2] == NULL else unquote(match[2])
    return tuple(found.items())


def columns_of(files: Sequence[tuple[str, Keys]]) -> pa.Schema:
    """The columns that folders make, given as (file name, keys).

    Raises :class:`~laminar.errors.InputError` when two files have different ones.
    """
    first_name, first = files[0]
    wanted = [name for name, _ in first]
    for name, keys in files[1:]:
        if [key for key, _ in keys] != wanted:
            raise InputError(
                f"{first_name} and {name} are in folders of different keys: "
                f"{_shown(first)} in the first, {_shown(keys)} in the second"
            )
    values = [[keys[i][1] for _, keys in files] for i in range(len(wanted))]
    fields = [pa.field(name, _type_of(column)) for name, column in zip(wanted, values, strict=True)]
    return pa.schema(fields)


def column(value: str | None, kind: Any, rows: int) -> Any:
    """A column that holds the value of a folder in every row."""
    if value is None:
        return pa.nulls(rows, kind)
    constant: Any = pa.scalar(value).cast(kind)
    return pa.repeat(constant, rows)


def _type_of(values: Sequence[str | None]) -> pa.DataType:
    known = [value for value in values if value is not None]
    if not known or not all(_INTEGER.fullmatch(value) for value in known):
        return pa.string()
    small = all(-(2**31) <= int(value) < 2**31 for value in known)
    return pa.int32() if small else pa.int64()


def _shown(keys: Keys) -> str:
    return "/".join(f"{name}=…" for name, _ in keys) or "none"
