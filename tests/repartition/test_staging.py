import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from laminar.errors import OutputError
from laminar.repartition import outputs
from laminar.repartition.staging import Staging

OLD = "part-00000-00ff.parquet"
NEW = "part-00000-12ab.parquet"


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def staged(out, *, overwrite=False, run_id="12ab"):
    return Staging(out, run_id, overwrite=overwrite)


def test_nothing_shows_before_publishing(tmp_path):
    out = tmp_path / "out"
    with staged(out) as staging:
        (staging.folder / "part").write_text("x")
        assert not out.exists()
        assert all(name.startswith(".") for name in listing(tmp_path))
        staging.publish()
    assert listing(out) == ["part"]
    assert listing(tmp_path) == ["out"]


def test_without_publishing_nothing_stays(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with staged(out) as staging:
        (staging.folder / "part").write_text("x")
    assert listing(tmp_path) == []


def test_an_empty_folder_may_be_there(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with staged(out) as staging:
        (staging.folder / "part").write_text("x")
        staging.publish()
    assert listing(out) == ["part"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_old_output_is_replaced_only_when_asked(tmp_path, overwrite):
    out = tmp_path / "out"
    out.mkdir()
    (out / OLD).write_text("x")
    if not overwrite:
        with pytest.raises(OutputError, match="not empty"), staged(out):
            pass
        assert listing(out) == [OLD]
        return
    with staged(out, overwrite=True) as staging:
        (staging.folder / "new").write_text("x")
        assert listing(out) == [OLD]
        assert staging.publish() == ()
    assert listing(out) == ["new"]
    assert listing(tmp_path) == ["out"]


def test_an_output_that_appeared_meanwhile_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    with staged(out) as staging:
        out.mkdir()
        (out / "theirs").write_text("x")
        with pytest.raises(OutputError, match="not empty"):
            staging.publish()
    assert listing(out) == ["theirs"]
    assert listing(tmp_path) == ["out"]


def test_a_failed_publishing_brings_the_old_output_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / OLD).write_text("x")
    rename = os.rename

    def fail_to_move_in(source, target):
        if "staging" in str(source):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_to_move_in)
    with (
        pytest.raises(OutputError, match="No space left"),
        staged(out, overwrite=True) as staging,
    ):
        staging.publish()
    assert listing(out) == [OLD]
    assert listing(tmp_path) == ["out"]


def test_a_file_in_the_way(tmp_path):
    out = tmp_path / "out"
    out.write_text("x")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="not a folder"), staged(out, overwrite=overwrite):
            pass
    with pytest.raises(OutputError, match="Not a directory"), staged(out / "below"):
        pass


def test_leftovers_of_dead_runs_are_removed_and_those_of_live_ones_are_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getppid()):
        (tmp_path / f".out.laminar-staging-{pid}-00ff").mkdir()
    (tmp_path / f".out.laminar-old-{dead.pid}-00ff").mkdir()
    with staged(tmp_path / "out"):
        pass
    assert set(listing(tmp_path)) == {
        f".out.laminar-staging-{os.getppid()}-00ff",
        f".out.laminar-old-{dead.pid}-00ff",
    }


def test_a_link_is_followed(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with staged(Path(tmp_path / "link")) as staging:
        (staging.folder / "part").write_text("x")
        staging.publish()
    assert (tmp_path / "link").is_symlink()
    assert listing(real) == ["part"]


@pytest.mark.parametrize(
    "theirs",
    [
        "precious.txt",
        "part-00000.parquet",
        "part-00000-3fa9-c000.snappy.parquet",
        "_SUCCESS",
        ".hidden",
    ],
)
def test_what_is_no_output_of_ours_is_never_replaced(tmp_path, theirs):
    out = tmp_path / "out"
    out.mkdir()
    for name in (OLD, theirs):
        (out / name).write_text("x")
    with (
        pytest.raises(OutputError, match="not replaced: it holds '" + theirs),
        staged(out, overwrite=True),
    ):
        pass
    assert set(listing(out)) == {OLD, theirs}


def test_nor_are_folders_and_links_that_are_named_like_parts(tmp_path):
    for make in (Path.mkdir, lambda path: path.symlink_to(tmp_path)):
        out = tmp_path / make.__name__
        out.mkdir()
        make(out / OLD)
        with pytest.raises(OutputError, match="not replaced"), staged(out, overwrite=True):
            pass


def test_what_appears_in_an_old_output_at_the_last_moment_survives(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / OLD).write_text("x")
    with staged(out, overwrite=True) as staging:
        (staging.folder / NEW).write_text("x")
        monkeypatch.setattr(staging, "_check_output", lambda: (out / "theirs").write_text("x"))
        (note,) = staging.publish()
    assert listing(out) == [NEW]
    (left,) = (path for path in tmp_path.iterdir() if path != out)
    assert listing(left) == ["theirs"]
    assert str(left) in note


@pytest.mark.parametrize("place", [".", "here", "/"])
def test_the_current_folder_and_those_above_are_never_an_output(tmp_path, monkeypatch, place):
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with (
        pytest.raises(OutputError, match="the current folder or one above it"),
        staged(tmp_path / place, overwrite=True),
    ):
        pass
    assert listing(tmp_path / "here") == ["below"]
    monkeypatch.chdir(tmp_path / "here" / "below")
    with staged(Path("../../out")):
        pass


def test_an_old_output_that_may_not_be_deleted_is_refused_at_the_start(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / OLD).write_text("x")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != out and access(path, mode))
    with pytest.raises(OutputError, match="no permission"), staged(out, overwrite=True):
        pass
    assert listing(tmp_path) == ["out"]


@pytest.fixture
def fixed(tmp_path, monkeypatch):
    """An output folder that cannot be renamed, like a mount point."""
    out = tmp_path / "out"
    out.mkdir()
    rename = os.rename

    def refuse_out(source, target):
        if out in (Path(source), Path(target)):
            raise OSError(16, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_out)
    monkeypatch.setattr(outputs, "_is_mount_point", lambda folder: folder == out)
    return out


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_cannot_be_renamed_is_filled(fixed, tmp_path, overwrite):
    if overwrite:
        (fixed / OLD).write_text("x")
        (fixed / f".laminar-old-{os.getpid()}-77").mkdir()
        (fixed / f".laminar-old-{os.getpid()}-77" / OLD).write_text("x")
    kept = listing(fixed)
    with staged(fixed, overwrite=overwrite) as staging:
        (staging.folder / NEW).write_text("x")
        assert listing(tmp_path) == ["out"]
        assert listing(fixed) == sorted([staging.folder.name, *kept])
        assert staging.publish() == ()
    assert listing(fixed) == [NEW]
    assert listing(tmp_path) == ["out"]


def test_a_failed_run_leaves_such_a_folder_as_it_was(fixed):
    (fixed / OLD).write_text("x")
    with staged(fixed, overwrite=True) as staging:
        (staging.folder / NEW).write_text("x")
    assert listing(fixed) == [OLD]


def test_leftovers_in_such_a_folder(fixed):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid(), os.getppid()):  # our own number: of a container before
        (fixed / f".laminar-staging-{pid}-00ff").mkdir()
    with staged(fixed) as staging:
        (staging.folder / NEW).write_text("x")
        staging.publish()
    assert listing(fixed) == [f".laminar-staging-{os.getppid()}-00ff", NEW]


def moves_until(monkeypatch, name, error):
    rename = os.rename

    def stop(source, target):
        if Path(target).name == name:
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "rename", stop)


def test_a_failed_filling_puts_everything_back(fixed, monkeypatch):
    (fixed / OLD).write_text("x")
    moves_until(monkeypatch, "part-00001-12ab.parquet", OSError(5, "Input/output error"))
    with staged(fixed, overwrite=True) as staging:
        for number in range(3):
            (staging.folder / f"part-{number:05}-12ab.parquet").write_text("x")
        with pytest.raises(OutputError, match="Input/output error"):
            staging.publish()
    assert listing(fixed) == [OLD]


def test_a_filling_that_was_killed_does_not_look_whole(fixed, monkeypatch):
    class Killed(BaseException):
        pass

    table = pa.table({"x": [1]})
    (fixed / OLD).write_text("x")
    staging = staged(fixed, overwrite=True).__enter__()
    for number in range(2):
        pq.write_table(table, staging.folder / f"part-{number:05}-12ab.parquet")
    with monkeypatch.context() as patch:
        moves_until(patch, "part-00001-12ab.parquet", Killed())
        with pytest.raises(Killed):
            staging.publish()
    assert [name for name in listing(fixed) if not name.startswith(".")] == [
        NEW,
        "part-unfinished.parquet",
    ]
    with pytest.raises(pa.ArrowInvalid, match="part-unfinished"):
        ds.dataset(fixed).to_table()
    with pytest.raises(OutputError, match="a killed run did not finish"), staged(fixed):
        pass
    with staged(fixed, overwrite=True, run_id="34cd") as staging:
        (staging.folder / "part-00000-34cd.parquet").write_text("x")
        staging.publish()
    assert listing(fixed) == ["part-00000-34cd.parquet"]


def test_folders_that_can_be_renamed(tmp_path, monkeypatch):
    assert not outputs.is_fixed(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path.parent)
    assert outputs.is_fixed(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="where this is a mount point")
def test_mount_points_are_known():
    assert outputs.is_fixed(Path("/proc"))
