import gzip

import pyarrow as pa
import pytest

from laminar.errors import InputError
from laminar.repartition.footers import inspect
from laminar.repartition.sources import find_sources


def look(path):
    return inspect(find_sources([str(path)])[0])


def test_parquet(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.parquet", row_group_size=600)
    facts = look(path)
    assert facts.schema.equals(orders.schema)
    assert [(piece.index, piece.rows) for piece in facts.pieces] == [
        (0, 600),
        (1, 600),
        (2, 600),
        (3, 200),
    ]
    assert 0.9 < sum(piece.size_bytes for piece in facts.pieces) / path.stat().st_size <= 1
    assert facts.low_cardinality == {"status"}
    assert not facts.decimals_as_integers
    assert 20 < facts.row_bytes < 200


def test_parquet_with_decimals_as_integers(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.parquet", store_decimal_as_integer=True)
    assert look(path).decimals_as_integers


def test_text_without_a_dictionary_is_not_taken_for_one(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.parquet", use_dictionary=False)
    assert look(path).low_cardinality == frozenset()


def test_a_file_without_rows(orders, write, tmp_path):
    facts = look(write(orders.slice(0, 0), tmp_path / "x.parquet"))
    assert facts.pieces == ()
    assert facts.schema.equals(orders.schema)


def test_arrow_files_and_streams(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.arrow", max_chunksize=500)
    assert [piece.index for piece in look(path).pieces] == [0, 1, 2, 3]
    with pa.ipc.new_stream(tmp_path / "y.arrow", orders.schema) as writer:
        writer.write_table(orders)
    facts = look(tmp_path / "y.arrow")
    assert len(facts.pieces) == 1
    assert facts.schema == orders.schema


def test_csv_types_are_inferred(tmp_path):
    text = b"id,name,none,at\n1,x,,2024-01-01 10:00:00\n2,y,,2024-01-02 10:00:00\n"
    (tmp_path / "x.csv").write_bytes(text)
    (tmp_path / "y.csv.gz").write_bytes(gzip.compress(text))
    for name in ("x.csv", "y.csv.gz"):
        types = [pa.int64(), pa.string(), pa.null(), pa.timestamp("ms")]
        assert look(tmp_path / name).schema.types == types


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.parquet", b"hello, this is not Parquet", "not readable as Parquet"),
        ("x.parquet", b"", "not readable as Parquet"),
        ("x.arrow", b"ARROW1 but then nothing of the kind", "not readable as Arrow IPC"),
        ("x.arrow", b"", "not readable as Arrow IPC"),
        ("x.feather", b"FEA1 and so on", "Feather version 1"),
        ("x.csv", b"", "no column names"),
        ("x.csv", b"a,b\n1,2\n3\n", "not readable as CSV"),
        ("x.csv", "a,b\n1,é\n".encode("latin-1"), "not UTF-8 text (byte 0xe9 at offset 6)"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16"), "not UTF-8 text (byte 0xff at offset 0)"),
        ("x.csv.gz", b"not gzip at all", "not readable as CSV"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        look(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_truncated_parquet_file(orders, write, tmp_path):
    path = write(orders, tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not readable as Parquet"):
        look(path)
