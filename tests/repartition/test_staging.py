import os
import subprocess
import sys
from pathlib import Path

import pytest

from laminar.errors import OutputError
from laminar.repartition.staging import Staging


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
    (out / "old").write_text("x")
    if not overwrite:
        with pytest.raises(OutputError, match="not empty"), staged(out):
            pass
        assert listing(out) == ["old"]
        return
    with staged(out, overwrite=True) as staging:
        (staging.folder / "new").write_text("x")
        assert listing(out) == ["old"]
        staging.publish()
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
    (out / "old").write_text("x")
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
    assert listing(out) == ["old"]
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
