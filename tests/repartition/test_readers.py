import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laminar.errors import InputError
from laminar.repartition.budget import Budget
from laminar.repartition.footers import inspect
from laminar.repartition.planning import arrange
from laminar.repartition.readers import Reader
from laminar.repartition.schema import physical_schema
from laminar.repartition.sources import find_sources

SMALL = Budget(batch_bytes=20_000, window_bytes=1 << 20, frame_bytes=1 << 18, holding_bytes=1 << 20)


def read(path, *, dictionary_columns=(), budget=SMALL, logical=None):
    facts = inspect(find_sources([str(path)])[0])
    logical = logical or facts.schema
    physical = physical_schema(logical, dictionary_columns)
    reader = Reader(logical, physical, facts.row_bytes, budget)
    batches = [batch for split in arrange([facts], 2) for batch in reader.batches(split)]
    reader.close()
    assert all(batch.schema.equals(physical) for batch in batches)
    return pa.Table.from_batches(batches, schema=physical), batches


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_every_row_in_order(orders, write, tmp_path, suffix):
    path = write(orders, tmp_path / f"x.{suffix}")
    table, batches = read(path)
    expected = orders.column("id").to_pylist()
    assert table.column("id").to_pylist() == expected
    assert len(batches) > 1


def test_batches_are_no_larger_than_planned(orders, write, tmp_path):
    text = pa.table({"id": range(500), "long": ["x" * 1000] * 499 + [None]})
    _, batches = read(write(text, tmp_path / "x.parquet"))
    # A column of one value is a few bytes in the file: only reading shows how large it is.
    assert max(batch.nbytes for batch in batches) <= 2 * max(SMALL.batch_bytes, 256 * 1010)
    _, batches = read(write(text, tmp_path / "x.arrow"))
    assert max(batch.nbytes for batch in batches) <= 2 * max(SMALL.batch_bytes, 256 * 1010)


def test_chosen_columns_are_read_as_dictionaries(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.parquet", row_group_size=700)
    table, _ = read(path, dictionary_columns=["status"])
    assert table.column("status").cast(pa.string()).equals(orders.column("status"))


def test_views_are_held_as_text(orders, write, tmp_path):
    viewed = orders.set_column(2, "note", orders["note"].cast(pa.string_view()))
    table, _ = read(write(viewed, tmp_path / "x.parquet"))
    assert table.column("note").equals(orders.column("note"))


def test_a_damaged_page_is_an_input_error(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.parquet", compression="zstd")
    chunk = pq.read_metadata(path).row_group(0).column(2)
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset + 40
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(InputError) as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_damaged_offsets_of_an_arrow_file_are_found(write, tmp_path):
    path = write(pa.table({"s": ["abc", "def", "ghi"]}), tmp_path / "x.arrow")
    data = path.read_bytes()
    offsets = b"".join(i.to_bytes(4, "little") for i in (0, 3, 6, 9))
    damaged = b"".join(i.to_bytes(4, "little") for i in (0, 3_000_000, 6, 9))
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, damaged))
    with pytest.raises(InputError, match="not readable as Arrow IPC"):
        read(path)


def test_a_csv_that_changes_its_mind_is_an_input_error(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id\n" + "1\n" * 600_000 + "two\n")
    with pytest.raises(InputError, match="not readable as CSV"):
        read(path)


def test_a_file_that_vanished_is_an_input_error(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.parquet")
    facts = inspect(find_sources([str(path)])[0])
    path.unlink()
    reader = Reader(facts.schema, facts.schema, facts.row_bytes, SMALL)
    with pytest.raises(InputError, match="No such file"):
        list(reader.batches(next(iter(arrange([facts], 1)))))
