import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from laminar.errors import InputError
from laminar.repartition.hive import column, columns_of, keys_of


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("x/p.parquet", ()),
        ("x/day=1/c=us/p.parquet", (("day", "1"), ("c", "us"))),
        ("day=1/p.parquet", (("day", "1"),)),
        ("x/day=1.parquet", ()),
        ("x/=1/p.parquet", ()),
        ("x/a=/b=c=d/p.parquet", (("a", ""), ("b", "c=d"))),
        ("x/a=%2F%20é/p.parquet", (("a", "/ é"),)),
        ("x/a=__HIVE_DEFAULT_PARTITION__/p.parquet", (("a", None),)),
        ("s3://bucket/day=1/p.parquet?region=x/day=2/y", (("day", "1"),)),
    ],
)
def test_keys_are_in_the_names_of_folders(name, keys):
    assert keys_of(name) == keys


def types_of(*values):
    return columns_of([(f"{i}", (("a", value),)) for i, value in enumerate(values)]).types


def test_types_are_inferred_from_all_values():
    assert types_of("1", "02", "-3", None) == [pa.int32()]
    assert types_of("1", "3000000000") == [pa.int64()]
    for values in (("1", "x"), ("1", ""), ("1.5",), (None,), ("9" * 19,), ("²",)):
        assert types_of(*values) == [pa.string()]


def test_values_are_columns():
    assert column("07", pa.int32(), 2).to_pylist() == [7, 7]
    assert column("x", pa.string(), 1).to_pylist() == ["x"]
    assert column(None, pa.int32(), 2).equals(pa.nulls(2, pa.int32()))


def test_files_in_folders_of_other_keys_are_refused():
    files = [("a/d=1/x", (("d", "1"),)), ("a/x", ())]
    with pytest.raises(InputError, match="d=… in the first, none in the second"):
        columns_of(files)


def test_the_columns_are_those_of_pyarrow(tmp_path):
    for day, country in ((1, "us"), (2, "f r")):
        path = tmp_path / f"day={day}" / f"c={country.replace(' ', '%20')}" / "p.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"k": [day]}), path)
    theirs = ds.dataset(tmp_path, partitioning="hive")
    names = [str(path) for path in sorted(tmp_path.rglob("*.parquet"))]
    ours = columns_of([(name, keys_of(name)) for name in names])
    assert [pa.field("k", pa.int64()), *ours] == list(theirs.schema)
    values = [[value for _, value in keys_of(name)] for name in names]
    assert values == [[str(r["day"]), r["c"]] for r in theirs.to_table().to_pylist()]
