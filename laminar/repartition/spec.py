"""What a `laminar shuffle` run is asked to do, checked before anything is touched."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from laminar.errors import ConfigError

OutputFormat: TypeAlias = Literal["parquet", "arrow"]

PARTITIONS_MAX: Final = 65_536
"""More partitions than this do not fit the vnode type (and hardly any open-file limit)."""

WORKERS_MAX: Final = 256

MEMORY_LIMIT_BYTES_MIN: Final = 64 << 20
"""Below this a worker cannot hold a few Parquet pages of every column and still make progress."""

PARTITION_BYTES_MIN: Final = 512 << 10
"""What every partition of a worker adds to that: its file's writer, and rows worth a row group."""

CODECS: Final[dict[str, tuple[str, ...]]] = {
    "parquet": ("snappy", "zstd", "lz4", "gzip", "brotli", "none"),
    "arrow": ("none", "lz4", "zstd"),
}
"""Codec names per output format; the first one is the default."""


def default_workers() -> int:
    """The number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return min(WORKERS_MAX, len(os.sched_getaffinity(0)))
    return min(WORKERS_MAX, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One repartition job.

    ``inputs`` are files, folders, globs or URIs; ``by`` are the key columns. ``compression``
    is a codec name of the output format, or None for that format's default.
    Raises :class:`~laminar.errors.ConfigError` when a value makes no sense.
    """

    inputs: tuple[str, ...]
    by: tuple[str, ...]
    out: Path
    partitions: int = 16
    workers: int = field(default_factory=default_workers)
    memory_limit_bytes: int = 1 << 30
    """What one worker may hold of rows, on top of the fixed size of its process."""
    output_format: OutputFormat = "parquet"
    compression: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.inputs or not all(self.inputs):
            raise ConfigError("name at least one input file, folder, glob or URI")
        if "://" in str(self.out) or str(self.out).startswith(("file:", "s3:", "gs:")):
            raise ConfigError(f"--out is a local folder, not a URI: {self.out}")
        self._check_keys()
        _check_range("--partitions", self.partitions, 1, PARTITIONS_MAX)
        _check_range("--workers", self.workers, 1, WORKERS_MAX)
        self._check_memory()
        self._check_codec()

    def _check_keys(self) -> None:
        if not self.by or not all(self.by):
            raise ConfigError("--by names one or more columns, separated by commas")
        for column in self.by:
            if self.by.count(column) > 1:
                raise ConfigError(f"--by names column {column!r} twice")

    def _check_memory(self) -> None:
        owned = -(-self.partitions // self.workers)
        least = max(
            MEMORY_LIMIT_BYTES_MIN, (MEMORY_LIMIT_BYTES_MIN >> 1) + owned * PARTITION_BYTES_MIN
        )
        if self.memory_limit_bytes < least:
            raise ConfigError(
                f"--memory-limit is at least {-(-least >> 20):,}MiB per worker for "
                f"{self.partitions:,} partitions on {self.workers:,} workers, "
                f"got {self.memory_limit_bytes / (1 << 20):,.1f} MiB"
            )

    def _check_codec(self) -> None:
        if self.output_format not in CODECS:
            raise ConfigError(f"--format is one of {', '.join(CODECS)}, got {self.output_format!r}")
        known = CODECS[self.output_format]
        if self.compression is not None and self.compression not in known:
            raise ConfigError(
                f"--compression for {self.output_format} is one of {', '.join(known)}, "
                f"got {self.compression!r}"
            )

    @property
    def codec(self) -> str:
        """The codec to write with, the format's default filled in."""
        return self.compression or CODECS[self.output_format][0]


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{option} is between {low:,} and {high:,}, got {value:,}")
