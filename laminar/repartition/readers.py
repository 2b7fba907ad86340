"""From a split to batches of rows in the physical schema, a bounded piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from laminar.errors import InputError
from laminar.repartition import hive
from laminar.repartition.budget import Budget
from laminar.repartition.footers import READ_ERRORS, is_arrow_stream, unreadable
from laminar.repartition.plan import Split
from laminar.repartition.schema import conform
from laminar.repartition.sources import locate

READ_BUFFER_BYTES = 256 << 10
"""Column chunks are read through a buffer of this size instead of whole."""

CSV_BLOCK_BYTES_MAX = 4 << 20


class Reader:
    """Reads splits for one worker; remembers the last file, and how large rows really are.

    Not thread-safe, but may be used from one thread after another.
    """

    def __init__(
        self, logical: pa.Schema, physical: pa.Schema, row_bytes: float, budget: Budget
    ) -> None:
        self._logical = logical
        self._physical = physical
        self._row_bytes = row_bytes
        self._budget = budget
        self._dictionary_columns = [
            one.name
            for one, other in zip(logical, physical, strict=True)
            if pa.types.is_dictionary(other.type) and not pa.types.is_dictionary(one.type)
        ]
        self._open: tuple[str, Any] | None = None

    def batches(self, split: Split) -> Iterator[pa.RecordBatch]:
        """The rows of a split, in order, in batches of about ``budget.batch_bytes``.

        Raises :class:`~laminar.errors.InputError` when the file cannot be read.
        """
        read = {"parquet": self._parquet, "arrow": self._arrow, "csv": self._csv}[split.format]
        kind = {"parquet": "Parquet", "arrow": "Arrow IPC", "csv": "CSV"}[split.format]
        try:
            for batch in read(split):
                if batch.num_rows:
                    whole = self._with_constants(batch, split)
                    yield from self._sized(conform(whole, self._physical))
        except InputError:
            raise
        except READ_ERRORS as error:
            raise unreadable(split.source, kind, error) from error

    def close(self) -> None:
        """Close the file that is kept open between splits."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _with_constants(self, batch: pa.RecordBatch, split: Split) -> pa.RecordBatch:
        for name, value in split.constants:
            kind = self._logical.field(name).type
            batch = batch.append_column(name, hive.column(value, kind, batch.num_rows))
        return batch

    def _sized(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Cut a batch that came larger than planned, and plan better from then on."""
        size = batch.nbytes
        self._row_bytes = max(self._row_bytes, size / batch.num_rows)
        if size <= 2 * self._budget.batch_bytes:
            yield batch
            return
        rows = self._budget.batch_rows(size / batch.num_rows)
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)

    def _parquet(self, split: Split) -> Iterator[pa.RecordBatch]:
        file = self._parquet_file(split.source)
        for group in split.pieces:  # one at a time: dictionaries differ between row groups
            yield from file.iter_batches(
                batch_size=self._budget.batch_rows(self._row_bytes),
                row_groups=[group],
                use_threads=False,
            )

    def _parquet_file(self, name: str) -> pq.ParquetFile:
        if self._open is None or self._open[0] != name:
            self.close()
            filesystem, path = locate(name)
            file = pq.ParquetFile(
                path,
                filesystem=filesystem,
                read_dictionary=self._dictionary_columns or None,
                buffer_size=READ_BUFFER_BYTES,
                pre_buffer=False,
            )
            self._open = (name, file)
        opened: pq.ParquetFile = self._open[1]
        return opened

    def _arrow(self, split: Split) -> Iterator[pa.RecordBatch]:
        filesystem, path = locate(split.source)
        with filesystem.open_input_file(path) as file:
            if is_arrow_stream(file):
                with pa.ipc.open_stream(file) as stream:
                    for batch in stream:
                        yield _sound(batch)
                return
            with pa.ipc.open_file(file) as reader:
                for index in split.pieces:
                    yield _sound(reader.get_batch(index))

    def _csv(self, split: Split) -> Iterator[pa.RecordBatch]:
        filesystem, path = locate(split.source)
        types = {field.name: field.type for field in self._logical}
        types.update(dict.fromkeys(split.integers, pa.int64()))
        names = self._logical.names[: len(self._logical) - len(split.constants)]
        if len(set(names)) < len(names):  # cannot be asked for by name: they are as they come
            names = []
        open_csv: Any = pacsv.open_csv
        block = min(CSV_BLOCK_BYTES_MAX, self._budget.batch_bytes)
        with (
            filesystem.open_input_stream(path, compression="detect") as stream,
            open_csv(
                stream,
                read_options=pacsv.ReadOptions(use_threads=False, block_size=block),
                convert_options=pacsv.ConvertOptions(column_types=types, include_columns=names),
            ) as reader,
        ):
            yield from reader


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Check what an Arrow file says about its buffers.

    Arrow reads corrupt offsets without complaint and then crashes on the first access.
    """
    batch.validate(full=True)
    return batch
