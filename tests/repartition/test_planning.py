import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import InputError, OutputError, UnsupportedKeyError
from laminar.repartition.footers import FileFacts, Piece
from laminar.repartition.planning import SPLIT_BYTES_MAX, arrange, divide, make_plan
from laminar.repartition.sources import SourceFile
from laminar.repartition.spec import JobSpec

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


def facts(sizes, name="a.parquet", schema=SCHEMA, low=()):
    pieces = tuple(Piece(i, size // 10 + 1, size) for i, size in enumerate(sizes))
    source = SourceFile(name, "parquet", sum(sizes))
    return FileFacts(source, schema, pieces, 40.0, frozenset(low))


def spec(*inputs, **changes):
    given = {"inputs": inputs or ("a",), "by": ("id",), "out": Path("out"), "workers": 2}
    return JobSpec(**{**given, **changes})


@given(
    st.lists(st.lists(st.integers(1, 1 << 27), max_size=30), min_size=1, max_size=5),
    st.integers(1, 16),
)
def test_splits_hold_every_piece_once_in_order(files, workers):
    given_facts = [facts(sizes, f"{i}.parquet") for i, sizes in enumerate(files)]
    splits = list(arrange(given_facts, workers))
    pieces = [(split.source, piece) for split in splits for piece in split.pieces]
    assert pieces == [(f.source.name, p.index) for f in given_facts for p in f.pieces]
    for split in splits:
        assert split.size_bytes <= SPLIT_BYTES_MAX or len(split.pieces) == 1
    assert sum(split.rows for split in splits) == sum(
        piece.rows for fact in given_facts for piece in fact.pieces
    )


def test_one_big_file_occupies_all_workers():
    assert len(list(arrange([facts([1 << 20] * 48)], 4))) >= 4 * 8


def test_totals():
    plan = divide(spec(), [facts([100, 200], "a.parquet"), facts([300], "b.parquet")])
    assert (plan.files, plan.rows, plan.size_bytes) == (2, 11 + 21 + 31, 600)
    assert plan.notes == ()


def test_only_columns_that_are_dictionaries_everywhere_are_held_so():
    files = [facts([1], "a", low={"text", "id"}), facts([1], "b", low={"text"})]
    assert divide(spec(), files).layout.dictionary_columns == ("text",)
    assert divide(spec(by=("text",)), files).layout.dictionary_columns == ()
    assert divide(spec(), [*files, facts([1], "c")]).layout.dictionary_columns == ()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="no column 'nope'"):
        divide(spec(by=("nope",)), [facts([1])])
    with pytest.raises(InputError, match="different schemas"):
        divide(spec(), [facts([1], "a"), facts([1], "b", pa.schema([("id", pa.int8())]))])
    keyed_by_map = pa.schema([("id", pa.map_(pa.string(), pa.string()))])
    with pytest.raises(UnsupportedKeyError, match="id"):
        divide(spec(), [facts([1], schema=keyed_by_map)])


def test_input_and_output_must_not_overlap(orders, write, tmp_path):
    write(orders, tmp_path / "in" / "x.parquet")
    for inputs, out in [
        ("in", "in"),
        ("in", "in/out"),
        ("in/x.parquet", "in"),
        ("in", "."),
    ]:
        with pytest.raises(OutputError, match="the output folder"):
            make_plan(spec(str(tmp_path / inputs), out=tmp_path / out, overwrite=True))
        with pytest.raises(OutputError, match="the output folder"):
            make_plan(spec(f"file://{tmp_path / inputs}", out=tmp_path / out, overwrite=True))
    make_plan(spec(str(tmp_path / "in"), out=tmp_path / "in2"))
    link = tmp_path / "link"
    os.symlink(tmp_path / "in", link)
    with pytest.raises(OutputError, match="the output folder"):
        make_plan(spec(str(tmp_path / "in"), out=link / "out"))
