import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laminar.errors import OutputError
from laminar.repartition.schema import conform, physical_schema
from laminar.repartition.writers import (
    Encoding,
    check_writable,
    dictionary_columns,
    open_partition,
)

FIELDS = {
    "string_view": pa.field("c", pa.string_view()),
    "binary_view": pa.field("c", pa.binary_view()),
    "large_string": pa.field("c", pa.large_string()),
    "not null": pa.field("c", pa.string(), nullable=False),
    "decimal": pa.field("c", pa.decimal128(15, 2)),
    "decimal32": pa.field("c", pa.decimal32(5, 2)),
    "time zone": pa.field("c", pa.timestamp("ns", "Europe/Berlin")),
    "duration": pa.field("c", pa.duration("ms")),
    "dictionary": pa.field("c", pa.dictionary(pa.int32(), pa.string())),
    "ordered": pa.field("c", pa.dictionary(pa.int8(), pa.string(), ordered=True)),
    "list": pa.field("c", pa.list_(pa.string_view())),
    "list view": pa.field("c", pa.list_view(pa.int64())),
    "fixed list": pa.field("c", pa.list_(pa.int64(), 2)),
    "struct": pa.field("c", pa.struct([("x", pa.string_view()), ("y", pa.int8())])),
    "map": pa.field("c", pa.map_(pa.string(), pa.int64())),
    "uuid": pa.field("c", pa.uuid()),
    "metadata": pa.field("c", pa.int64(), metadata={"PARQUET:field_id": "5", "m": "n"}),
}


def read_back(path, output_format):
    if output_format == "parquet":
        return pq.read_schema(path), pq.read_table(path)
    with pa.ipc.open_file(path) as reader:
        return reader.schema, reader.read_all()


@pytest.mark.parametrize("output_format", ["parquet", "arrow"])
@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())
def test_the_schema_comes_back_as_it_was(field, output_format, tmp_path):
    logical = pa.schema([field], metadata={"made": "here", "pandas": "{}"})
    column = pa.array([], field.type) if not field.nullable else pa.nulls(3, field.type)
    if output_format == "parquet":  # what Parquet itself keeps is what a Parquet input has
        pq.write_table(pa.table([column], schema=logical), tmp_path / "source.parquet")
        logical = pq.read_schema(tmp_path / "source.parquet")
    physical = physical_schema(logical, [])
    notes = check_writable(logical, [], output_format, "none")
    rows = conform(pa.record_batch([column.cast(logical.field(0).type)], schema=logical), physical)
    file = open_partition(
        tmp_path / "part", Encoding(logical, physical, output_format, "none", False)
    )
    file.write(pa.Table.from_batches([rows]))
    file.write(pa.Table.from_batches([rows, rows]))
    size_bytes = file.close()
    schema, table = read_back(tmp_path / "part", output_format)
    assert schema.equals(logical, check_metadata=True)
    assert table.num_rows == 3 * len(rows)
    assert notes == ()
    assert size_bytes == (tmp_path / "part").stat().st_size


def test_text_held_as_dictionaries_comes_back_as_text(tmp_path):
    logical = pa.schema([("s", pa.string_view()), ("t", pa.string())])
    physical = physical_schema(logical, ["s", "t"])
    file = open_partition(
        tmp_path / "part", Encoding(logical, physical, "parquet", "snappy", False)
    )
    for values in (["a", None, "b"], ["c", "a", "c"]):
        text = pa.array(values)
        batch = pa.record_batch([text.dictionary_encode()] * 2, schema=physical)
        other = pa.record_batch([pa.array(["z", "a"]).dictionary_encode()] * 2, schema=physical)
        file.write(pa.Table.from_batches([batch, other]))
    file.close()
    table = pq.read_table(tmp_path / "part")
    assert table.schema == logical
    assert table["s"].to_pylist() == ["a", None, "b", "z", "a", "c", "a", "c", "z", "a"]
    assert table["t"].to_pylist() == table["s"].to_pylist()
    assert pq.ParquetFile(tmp_path / "part").metadata.num_row_groups == 2


def test_dictionaries_of_an_arrow_file_grow(tmp_path):
    logical = pa.schema([("d", pa.dictionary(pa.int8(), pa.string()))])
    physical = physical_schema(logical, [])
    file = open_partition(tmp_path / "part", Encoding(logical, physical, "arrow", "lz4", False))
    for values in (["a", "b"], ["c", "b"], ["d", None]):
        column = pa.array(values).dictionary_encode()
        file.write(pa.table([column], schema=physical))
    file.close()
    schema, table = read_back(tmp_path / "part", "arrow")
    assert schema == logical
    assert table["d"].to_pylist() == ["a", "b", "c", "b", "d", None]


@pytest.mark.parametrize("output_format", ["parquet", "arrow"])
def test_a_partition_without_rows_is_a_file_with_the_schema(output_format, tmp_path):
    logical = pa.schema([("s", pa.string_view())])
    encoding = Encoding(logical, physical_schema(logical, ["s"]), output_format, "none", False)
    open_partition(tmp_path / "part", encoding).close()
    schema, table = read_back(tmp_path / "part", output_format)
    assert schema == logical
    assert table.num_rows == 0


def test_only_columns_that_repeat_get_a_dictionary():
    rows = pa.table(
        {
            "unique": list(range(1000)),
            "few": [i % 10 for i in range(1000)],
            "flag": [i % 2 == 0 for i in range(1000)],
            "encoded": pa.array([str(i) for i in range(1000)]).dictionary_encode(),
            "nested": [[i % 2] for i in range(1000)],
        }
    )
    assert dictionary_columns(rows) == ["few", "encoded"]


def test_what_a_format_cannot_keep_is_noted():
    schema = pa.schema([("t", pa.timestamp("s"))])
    notes = check_writable(schema, [], "parquet", "snappy")
    assert notes == ("column 't': timestamp[s] becomes timestamp[ms] in parquet",)


def test_what_a_format_cannot_hold_is_refused():
    schema = pa.schema([("t", pa.month_day_nano_interval())])
    with pytest.raises(OutputError, match="do not fit parquet"):
        check_writable(schema, [], "parquet", "snappy")


@pytest.mark.parametrize("output_format", ["parquet", "arrow"])
def test_a_path_that_cannot_be_written_is_named(output_format, tmp_path):
    logical = pa.schema([("x", pa.int64())])
    path = tmp_path / "missing" / "part"
    file = open_partition(path, Encoding(logical, logical, output_format, "none", False))
    with pytest.raises(OutputError) as refused:
        file.write(pa.table({"x": [1]}))
    assert str(path) in str(refused.value)
    assert "No such file" in str(refused.value)
