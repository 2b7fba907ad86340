"""Small data of every kind, and an independent engine to compare with."""

import collections
import decimal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="session")
def orders():
    """2,000 rows: an integer key, text with few and with many values, decimals, nulls."""
    rng = np.random.default_rng(7)
    rows = 2_000
    ids = np.arange(rows) // 4
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "status": pa.array([["open", "closed", "lost"][i] for i in rng.integers(0, 3, rows)]),
            "note": pa.array([None if i % 7 == 0 else f"note {i * 31}" for i in range(rows)]),
            "price": pa.array(
                [decimal.Decimal(int(cents)).scaleb(-2) for cents in rng.integers(0, 9999, rows)],
                pa.decimal128(15, 2),
            ),
            "day": pa.array(rng.integers(9_000, 12_000, rows).astype("int32"), pa.date32()),
        }
    )


@pytest.fixture
def write():
    """Write a table in the format of the path's extension."""

    def write_table(table, path, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(table, path, **options)
        elif path.suffix == ".csv":
            pacsv.write_csv(table, path)
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, **options)
        return path

    return write_table


@pytest.fixture
def multiset():
    """The rows of a table or of Parquet files as a multiset, read by DuckDB."""

    def of(source):
        if isinstance(source, pa.Table):
            relation = duckdb.from_arrow(source)
        else:
            relation = duckdb.read_parquet([str(path) for path in source])
        return collections.Counter(relation.project("columns(*)::varchar").fetchall())

    return of
