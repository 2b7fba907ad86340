import pytest

from laminar.repartition.naming import hidden_name, hidden_pid, is_part, part_name


def test_the_five_digits_are_the_partition():
    assert part_name(7, "1a2b3c4d", "parquet") == "part-00007-1a2b3c4d.parquet"
    assert part_name(65_535, "0", "arrow") == "part-65535-0.arrow"


def test_parts_are_recognised():
    assert is_part(part_name(0, "1a2b3c4d", "parquet"))
    assert is_part(part_name(65_535, "00ff", "arrow"))
    assert is_part("part-unfinished.parquet")


@pytest.mark.parametrize(
    "name",
    [
        "part-00000.parquet",
        "part-0-1a2b.parquet",
        "part-00000-1a2b.csv",
        "part-00000-1a2b.parquet.crc",
        "part-00000-1a2b-c000.parquet",
        "my-part-00000-1a2b.parquet",
        "part-00000-1a2b.parquet\n",
    ],
)
def test_other_names_are_not_ours(name):
    assert not is_part(name)


@pytest.mark.parametrize("out", [None, "out", "a.b", "x.laminar-staging-7-00"])
def test_hidden_names_tell_their_process(out):
    name = hidden_name(out, "staging", 42, "00ff")
    assert name.startswith(".")
    assert hidden_pid(name, out, "staging") == 42
    assert hidden_pid(name, out, "old") is None
    assert hidden_pid(name, "other", "staging") is None
