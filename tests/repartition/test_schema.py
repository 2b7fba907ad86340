import pyarrow as pa
import pytest

from laminar.errors import InputError
from laminar.repartition.schema import (
    changed_fields,
    check_keys,
    common_schema,
    conform,
    pack_schema,
    physical_schema,
    physical_type,
    settle_csv,
    unpack_schema,
)


@pytest.mark.parametrize(
    ("logical", "physical"),
    [
        (pa.int64(), pa.int64()),
        (pa.string(), pa.string()),
        (pa.large_string(), pa.large_string()),
        (pa.string_view(), pa.string()),
        (pa.binary_view(), pa.binary()),
        (pa.list_(pa.string_view()), pa.list_(pa.string())),
        (pa.large_list(pa.binary_view()), pa.large_list(pa.binary())),
        (pa.list_(pa.string_view(), 2), pa.list_(pa.string(), 2)),
        (pa.list_view(pa.int64()), pa.list_view(pa.int64())),
        (pa.map_(pa.string_view(), pa.int8()), pa.map_(pa.string(), pa.int8())),
        (
            pa.struct([pa.field("x", pa.string_view(), nullable=False)]),
            pa.struct([pa.field("x", pa.string(), nullable=False)]),
        ),
        (pa.dictionary(pa.int8(), pa.string(), True), pa.dictionary(pa.int32(), pa.string(), True)),
        (pa.dictionary(pa.int64(), pa.string()), pa.dictionary(pa.int64(), pa.string())),
    ],
)
def test_physical_types(logical, physical):
    assert physical_type(logical) == physical


def test_the_physical_schema_keeps_all_but_types():
    logical = pa.schema(
        [
            pa.field("a", pa.string_view(), nullable=False, metadata={"PARQUET:field_id": "1"}),
            pa.field("b", pa.string_view()),
            pa.field("c", pa.int64()),
        ]
    )
    physical = physical_schema(logical, ["a", "c"])
    assert physical.types == [pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.int64()]
    assert physical.names == logical.names
    assert physical.field("a").metadata == {b"PARQUET:field_id": b"1"}
    assert not physical.field("a").nullable


def test_conform_casts_by_position():
    batch = pa.record_batch({"x": pa.array(["a", "b"], pa.string_view())})
    schema = pa.schema([pa.field("x", pa.string(), nullable=False)])
    assert conform(batch, schema).schema == schema
    assert conform(batch, schema).to_pylist() == batch.to_pylist()


def test_conform_decodes_dictionaries():
    batch = pa.record_batch({"x": pa.array(["a", None, "a"]).dictionary_encode()})
    schema = pa.schema([("x", pa.string_view())])
    assert conform(batch, schema).schema == schema
    assert conform(batch, schema).to_pylist() == batch.to_pylist()


def test_nulls_where_the_schema_forbids_them_are_not_passed_on():
    batch = pa.record_batch({"x": pa.array(["a", None])})
    with pytest.raises(pa.ArrowInvalid, match="'x' holds nulls"):
        conform(batch, pa.schema([pa.field("x", pa.string(), nullable=False)]))


BASE = pa.schema([("a", pa.int64()), ("b", pa.string())])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (pa.schema([("a", pa.int64()), ("c", pa.string())]), "column 2 is 'b' in the first, 'c'"),
        (pa.schema([("a", pa.int32()), ("b", pa.string())]), "'a' is int64 in the first, int32"),
        (pa.schema([("a", pa.int64())]), "column 'b' is only in the first"),
        (BASE.append(pa.field("c", pa.int8())), "column 'c' is only in the second"),
        (
            pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.string())]),
            "'a' is nullable in the first, not null in the second",
        ),
    ],
)
def test_different_schemas_name_the_files_and_the_difference(other, said):
    with pytest.raises(InputError) as refused:
        common_schema([("one", BASE), ("two", BASE), ("three", other), ("four", BASE)])
    assert "one and three have different schemas" in str(refused.value)
    assert said in str(refused.value)


def test_metadata_may_differ_and_the_first_wins():
    first = BASE.with_metadata({"from": "first"})
    common = common_schema([("one", first), ("two", BASE.with_metadata({"from": "second"}))])
    assert common.metadata == {b"from": b"first"}


def test_keys_must_be_one_column_each():
    twice = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("b", pa.int64())])
    check_keys(twice, ["a"], "file")
    with pytest.raises(InputError, match="file has no column 'x'; it has: a, b, b"):
        check_keys(twice, ["a", "x"], "file")
    with pytest.raises(InputError, match="2 columns named 'b'"):
        check_keys(twice, ["b"], "file")


def test_columns_without_a_value_take_the_type_of_other_files():
    empty = pa.schema([("a", pa.null()), ("b", pa.null())])
    other = pa.schema([("a", pa.int64()), ("b", pa.null())])
    settled = settle_csv([empty, other], ["a", "b"])
    assert [schema.types for schema, _ in settled] == [[pa.int64(), pa.string()]] * 2


def test_csv_columns_agree_by_name_and_on_fractions():
    first = pa.schema([("a", pa.int64()), ("b", pa.float64())])
    other = pa.schema([("b", pa.int64()), ("a", pa.float64())])
    unknown = pa.schema([("a", pa.null()), ("b", pa.null())])
    settled = settle_csv([first, other, unknown], first.names)
    both = pa.schema([("a", pa.float64()), ("b", pa.float64())])
    assert settled == [(both, ("a",)), (both, ("b",)), (both, ())]


@pytest.mark.parametrize("names", [["b", "c"], ["b"], ["b", "a", "a"], ["b", "a", "c"]])
def test_other_csv_columns_stay_as_they_come(names):
    schema = pa.schema([(name, pa.int64()) for name in names])
    assert settle_csv([schema], ["a", "b"]) == [(schema, ())]


def test_packed_schemas_keep_metadata():
    schema = pa.schema([pa.field("a", pa.string_view(), metadata={"k": "v"})], metadata={"x": "y"})
    assert unpack_schema(pack_schema(schema)).equals(schema, check_metadata=True)


def test_changes_are_described():
    written = pa.schema([("a", pa.int32()), ("b", pa.string())])
    assert changed_fields(BASE, written) == {"a": "int64 becomes int32"}
