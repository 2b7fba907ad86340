"""What the files of an output are called, and which names are surely ours."""

from __future__ import annotations

import re
from typing import Final

from laminar.repartition.spec import OutputFormat

EXTENSION: Final[dict[str, str]] = {"parquet": "parquet", "arrow": "arrow"}

UNFINISHED: Final = "part-unfinished"
"""Stem of the file that is in an output while its parts move in. Being neither Parquet nor
Arrow, it makes whoever reads ``*.parquet`` or ``part-*`` fail instead of reading half."""

_PART = re.compile(rf"(?:part-\d{{5}}-[0-9a-f]+|{UNFINISHED})\.(?:parquet|arrow)")
_HIDDEN = re.compile(r"\.(?:.+\.)?laminar-(?P<role>staging|old)-(?P<pid>\d+)-[0-9a-f]+")


def part_name(partition: int, run_id: str, output_format: OutputFormat) -> str:
    """``part-00007-1a2b3c4d.parquet``: the five digits are the partition."""
    return f"part-{partition:05d}-{run_id}.{EXTENSION[output_format]}"


def is_part(name: str) -> bool:
    """Whether a file of this name is part of an output, or marks an unfinished one."""
    return _PART.fullmatch(name) is not None


def hidden_name(out: str | None, role: str, pid: int, run_id: str) -> str:
    """A folder of a run: inside the output, or beside the output named ``out``.

    Named after the process, so that a later run can tell whose leftovers it finds.
    """
    stem = "" if out is None else f".{out}"
    return f"{stem}.laminar-{role}-{pid}-{run_id}"


def hidden_pid(name: str, out: str | None, role: str) -> int | None:
    """The process of a name that :func:`hidden_name` made for ``out`` and ``role``."""
    match = _HIDDEN.fullmatch(name)
    if match is None or match["role"] != role:
        return None
    if not name.startswith(hidden_name(out, role, int(match["pid"]), "")):
        return None
    return int(match["pid"])
