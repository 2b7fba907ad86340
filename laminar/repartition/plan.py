"""What planning decides, as plain values that travel between processes."""

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
    constants: tuple[tuple[str, str | None], ...] = ()
    """The last columns, which folders say and not the file; see ``hive``."""
    integers: tuple[str, ...] = ()
    """Columns with fractions that are whole numbers in this (CSV) file."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows are like, and how workers hold and write them."""

    schema: str
    """The logical schema, of the inputs and of the outputs; see ``schema.pack_schema``."""
    dictionary_columns: tuple[str, ...]
    """Text columns that are held as dictionary indices."""
    decimals_as_integers: bool
    row_bytes: float
    """Estimated size of a row in memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before the first row is read."""

    layout: Layout
    splits: tuple[Split, ...]
    files: int
    rows: int | None
    """Known when every file says how many it has."""
    size_bytes: int
    notes: tuple[str, ...]
    """In words: what the output format cannot keep, and columns that no file has."""
