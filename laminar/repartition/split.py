"""The unit of work.

Light to import: the job's process starts its workers before it loads Arrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

SourceFormat: TypeAlias = Literal["parquet", "arrow", "csv"]


@dataclass(frozen=True, slots=True)
class Split:
    """A unit of work: some pieces of one file, in order."""

    source: str
    format: SourceFormat
    pieces: tuple[int, ...]
    rows: int | None
    size_bytes: int
