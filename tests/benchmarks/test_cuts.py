"""Connections that are killed all the time lose nothing, repeat nothing and reorder nothing."""

from __future__ import annotations

import duckdb
import pytest

from benchmarks.cuts import Plan, fingerprint, trials
from benchmarks.data import lineitem
from benchmarks.process import ChildError

CUTS_MIN = 200
CONFIG = {
    "target_frame_bytes": 16 * 1024,
    "coalesce_bytes": 16 * 1024,
    "window_bytes": 1024 * 1024,
    "backoff_initial_s": 0.002,
    "backoff_max_s": 0.02,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return lineitem(tmp_path_factory.mktemp("lineitem"), 0.05)


def plan(source, bytes_between, cuts_min, **how):
    return Plan(source, bytes_between, cuts_min, batch_rows=8192, config=CONFIG, **how)


@pytest.mark.slow
def test_lineitem_survives_hundreds_of_cuts(source, tmp_path):
    """The trial itself compares the rows by another engine, and their order on each channel."""
    with trials(plan(source, 60_000, CUTS_MIN), tmp_path, tmp_path / "logs") as trial:
        assert trial().notes["cuts"] >= CUTS_MIN


@pytest.mark.slow
def test_too_few_cuts_prove_nothing(source, tmp_path):
    with (
        trials(plan(source, None, 1), tmp_path, tmp_path / "logs") as trial,
        pytest.raises(ChildError, match="only 0 cuts"),
    ):
        trial()


@pytest.mark.parametrize(
    ("query", "same"),
    [
        ("SELECT x, y FROM t ORDER BY x DESC", True),
        ("SELECT x, y FROM t WHERE x < 9", False),
        ("SELECT x, y FROM t WHERE x < 9 UNION ALL SELECT 8, '8'", False),
        ("SELECT x, if(x = 3, 'other', y) AS y FROM t", False),
    ],
)
def test_the_fingerprint_is_that_of_a_multiset(tmp_path, query, same):
    found = []
    rows = "(SELECT range AS x, range::VARCHAR AS y FROM range(10)) AS t"
    for name, text in (("a", "SELECT x, y FROM t"), ("b", query)):
        path = tmp_path / f"{name}.parquet"
        duckdb.sql(text.replace("FROM t", f"FROM {rows}")).write_parquet(str(path))
        found.append(fingerprint(path))
    assert (found[0] == found[1]) is same
