import os

import pytest

from laminar.errors import InputError
from laminar.repartition.sources import find_sources, is_uri, locate, reason


@pytest.fixture
def tree(tmp_path):
    for name in [
        "data/b.parquet",
        "data/a.parquet",
        "data/day=2/c.parquet",
        "data/_temporary/x.parquet",
        "data/.hidden.parquet",
        "data/readme.txt",
        "data/d.csv.gz",
        "other/e.ARROW",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path


def names(found, tree):
    return [os.path.relpath(file.name.removeprefix("file://"), tree) for file in found]


def test_a_folder_is_searched_in_order_without_hidden_files(tree):
    found = find_sources([str(tree / "data")])
    assert names(found, tree) == [
        "data/a.parquet",
        "data/b.parquet",
        "data/d.csv.gz",
        "data/day=2/c.parquet",
    ]
    assert [file.format for file in found] == ["parquet", "parquet", "csv", "parquet"]
    assert {file.size_bytes for file in found} == {5}


def test_globs(tree):
    assert names(find_sources([str(tree / "data" / "[ab].*")]), tree) == [
        "data/a.parquet",
        "data/b.parquet",
    ]
    assert names(find_sources([str(tree / "**" / "*.ARROW")]), tree) == ["other/e.ARROW"]


def test_a_file_named_like_a_glob_is_that_file(tree):
    (tree / "x[1].parquet").write_bytes(b"")
    assert len(find_sources([str(tree / "x[1].parquet")])) == 1


def test_a_pipe_is_not_waited_for(tree):
    os.mkfifo(tree / "data" / "pipe.csv")
    for given in (tree / "data" / "pipe.csv", tree / "data", f"file://{tree}/data/pipe.csv"):
        with pytest.raises(InputError, match=r"pipe\.csv.*(not a regular file|Not a directory)"):
            find_sources([str(given)])


def test_a_name_that_is_not_utf8_is_shown(tree):
    (tree / "data" / os.fsdecode(b"\xff.csv")).write_text("a\n1\n")
    for given in ("data", "data/*.csv"):
        with pytest.raises(InputError, match=r"xff\.csv.*the name is not UTF-8.*rename it"):
            find_sources([str(tree / given)])


def test_a_glob_does_not_skip_what_it_cannot_read(tree, monkeypatch):
    listdir = os.listdir

    def refuse(folder):
        if str(folder).endswith("day=2"):
            raise PermissionError(13, "Permission denied", str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    for pattern in ("data/*/*.parquet", "**/*.parquet", "data/day=2/*.parquet"):
        with pytest.raises(InputError, match="day=2: Permission denied"):
            find_sources([str(tree / pattern)])
    assert len(find_sources([str(tree / "data" / "*.parquet")])) == 2


def test_a_file_named_twice_is_read_once(tree):
    given = [str(tree / "data" / "a.parquet"), str(tree / "data" / "*.parquet")]
    assert names(find_sources(given), tree) == ["data/a.parquet", "data/b.parquet"]


def test_uris(tree):
    assert is_uri("s3://bucket/x")
    assert not is_uri("C:/x")
    folder = f"file://{tree}/data"
    assert names(find_sources([folder]), tree) == names(find_sources([str(tree / "data")]), tree)
    assert names(find_sources([folder + "/*.parquet"]), tree) == [
        "data/.hidden.parquet",
        "data/a.parquet",
        "data/b.parquet",
    ]
    assert names(find_sources([folder + "/**/c.parquet"]), tree) == ["data/day=2/c.parquet"]
    assert names(find_sources([folder + "/a.parquet"]), tree) == ["data/a.parquet"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{}/nothing.parquet", "No such file"),
        ("{}/data/readme.txt", "unknown kind of file"),
        ("{}/data/*.feather", "no input file there"),
        ("file://{}/nothing", "not found"),
        ("nonsense://{}/x.parquet", "not a location"),
    ],
)
def test_what_is_not_there_is_named(tree, given, said):
    given = given.format(tree)
    with pytest.raises(InputError) as refused:
        find_sources([given])
    assert said in str(refused.value)
    assert given in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no input file there"):
        find_sources([str(tmp_path)])


def test_locate_gives_a_path_on_a_file_system(tree):
    filesystem, path = locate(str(tree / "data" / "a.parquet"))
    with filesystem.open_input_file(path) as file:
        assert file.read() == b"12345"


def test_reasons_are_one_line():
    assert reason(OSError(28, "No space left on device")) == "No space left on device"
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
