"""What must not be imported: each would cost every process half a second or more."""

import subprocess
import sys

PARTITION_A_BATCH = """
import sys
import pyarrow as pa
from laminar import HashPartitioner

keys = pa.Array.from_buffers(pa.int64(), 8, [None, pa.py_buffer(bytes(64))])
nulls = pa.nulls(8, pa.string_view())
batch = pa.RecordBatch.from_arrays([keys, nulls], names=["key", "text"])
parts = HashPartitioner(["key"], ["a", "b"], vnodes=16).split(batch)
print(sum(part.num_rows for _, part in parts), "pandas" in sys.modules, "polars" in sys.modules)
"""


def test_partitioning_integers_imports_neither_pandas_nor_polars() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PARTITION_A_BATCH], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["8", "False", "False"]


HEAVY = ("aiohttp", "httpx2", "pandas", "polars", "trio")

IMPORT_A_WORKER = f"""
import sys
import laminar.repartition.worker
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_workers_import_no_more_than_they_need() -> None:
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_A_WORKER], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
