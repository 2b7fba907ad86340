import glob
import os

import pytest

from laminar.repartition.globs import matching


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ["a/x.csv", "a/b/y.csv", "a/b/.z.csv", ".h/x.csv", "_t/x.csv", "c d/[1].csv"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*/*.csv",
        "a/*/y.csv",
        "**/*.csv",
        "a/**/y.csv",
        ".h/*.csv",
        ".*/*.csv",
        "a/b/.*",
        "[_a]/x.csv",
        "c d/[[]1].csv",
        "?/x.csv",
        "none/*.csv",
        "a/x.csv/*",
        "a/*/../x.csv",
    ],
)
def test_the_same_as_the_standard_library(tree, pattern):
    for given in (pattern, str(tree / pattern)):
        assert matching(given) == sorted(set(glob.glob(given, recursive=True)))


def test_links_that_lead_back_are_not_followed(tree):
    (tree / "a" / "again").symlink_to(tree)
    (tree / "a" / "other").symlink_to(tree / "c d")
    assert matching("a/**/*.csv") == ["a/b/y.csv", "a/other/[1].csv", "a/x.csv"]
    assert os.path.exists("a/again/a/x.csv")
