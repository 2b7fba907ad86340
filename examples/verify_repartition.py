"""Check a ``laminar shuffle`` of Parquet files with an independent engine, DuckDB.

    python examples/verify_repartition.py INPUT OUTPUT --by COLUMN[,COLUMN...] [--exact]

INPUT is a Parquet file, a folder or a glob; OUTPUT is the folder that the shuffle wrote.
Checked: the columns are the same, every row of the input is in the output exactly as often,
and every key is in exactly one part file. Rows are compared by the sum of their 64-bit hashes,
with ``--exact`` one by one. The exit code is 1 when any of that does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import duckdb


def main() -> int:
    """Run the checks and say how they went."""
    arguments = parse_arguments()
    started = time.perf_counter()
    engine = duckdb.connect()
    engine.execute("SET preserve_insertion_order = false")
    compare = check_rows_exactly if arguments.exact else check_rows
    try:
        before = relation(engine, arguments.input)
        after = relation(engine, arguments.output)
        problems = (
            check_columns(engine, before, after)
            or compare(engine, before, after)
            or check_keys(engine, after, arguments.by)
        )
    except duckdb.Error as error:
        problems = [f"DuckDB: {error}"]
    if problems:
        print("NOT a repartition of the input:", *problems, sep="\n  ", file=sys.stderr)
        return 1
    rows = scalar(engine, f"SELECT count(*) FROM {after}")
    files = scalar(engine, f"SELECT count(DISTINCT filename) FROM {with_files(after)}")
    print(
        f"Verified with DuckDB in {time.perf_counter() - started:.1f} s: all {rows:,} rows arrived "
        f"once, and every {', '.join(arguments.by)} is in exactly one of {files} files."
    )
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("input", help="Parquet file, folder or glob that was shuffled")
    parser.add_argument("output", help="folder that the shuffle wrote")
    parser.add_argument(
        "--by", required=True, type=lambda text: text.split(","), help="key columns, by commas"
    )
    parser.add_argument("--exact", action="store_true", help="compare row by row, not by hashes")
    return parser.parse_args()


def relation(engine: duckdb.DuckDBPyConnection, path: str) -> str:
    """Return ``path`` as something to select from."""
    pattern = f"{path.rstrip('/')}/**/*.parquet" if Path(path).is_dir() else path
    return "read_parquet('{}')".format(pattern.replace("'", "''"))


def with_files(source: str) -> str:
    """Return ``source`` with each row's file as the column ``filename``."""
    return source.removesuffix(")") + ", filename = true)"


def scalar(engine: duckdb.DuckDBPyConnection, query: str) -> int:
    """Run a query that returns one number."""
    row = engine.execute(query).fetchone()
    return int(row[0]) if row else 0


def check_columns(engine: duckdb.DuckDBPyConnection, before: str, after: str) -> list[str]:
    """Compare names, order and types of the columns."""
    columns = [
        [column[:2] for column in engine.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
        for source in (before, after)
    ]
    if columns[0] == columns[1]:
        return []
    return [f"the columns differ: {columns[0]} became {columns[1]}"]


def check_rows(engine: duckdb.DuckDBPyConnection, before: str, after: str) -> list[str]:
    """Compare the rows as multisets, by their number and the sum of their 64-bit hashes."""
    (rows, hashes), (rows_after, hashes_after) = (
        engine.execute(f"SELECT count(*), sum(hash(t)) FROM {source} AS t").fetchall()[0]
        for source in (before, after)
    )
    if rows != rows_after:
        return [f"the input has {rows:,} rows, the output {rows_after:,}"]
    return [] if hashes == hashes_after else ["the output holds other rows than the input"]


def check_rows_exactly(engine: duckdb.DuckDBPyConnection, before: str, after: str) -> list[str]:
    """Compare the rows themselves; takes about ten times as long and much memory."""
    problems = []
    for one, other, what in ((before, after, "lost"), (after, before, "made up")):
        rows = scalar(
            engine, f"SELECT count(*) FROM (SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other})"
        )
        if rows:
            problems.append(f"{rows:,} rows were {what}")
    return problems


def check_keys(engine: duckdb.DuckDBPyConnection, after: str, by: list[str]) -> list[str]:
    """Look for keys, nulls included, that are in several files."""
    columns = ", ".join('"{}"'.format(name.replace('"', '""')) for name in by)
    torn = f"""
        SELECT {columns} FROM {with_files(after)}
        GROUP BY {columns} HAVING min(filename) <> max(filename)
    """
    found = scalar(engine, f"SELECT count(*) FROM ({torn})")
    return [f"{found:,} keys are in more than one file"] if found else []


if __name__ == "__main__":
    sys.exit(main())
