"""The output folder: written aside, published at the end, whole or not at all.

The files are written into a hidden folder on the file system of the output. Usually that is
beside the output, and publishing is a rename: an existing output moves aside first, comes back
when publishing fails, and is deleted only after the new one is in its place.

A folder that cannot be renamed (a mount point, or one in a folder we may not write to) stays
where it is. The files are then written into a hidden folder inside it, and move up one by one,
while a file that nobody can read marks the output as unfinished; see :mod:`.naming`.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from laminar.errors import OutputError
from laminar.repartition import outputs
from laminar.repartition.naming import UNFINISHED, hidden_name

UNFINISHED_TEXT = b"""\
laminar shuffle was killed while it put its files into this folder: some are missing, and some of
an earlier output may still be here. Run it again with --overwrite.
"""


class Staging:
    """A folder to write into, until :meth:`publish`; as a context manager it cleans up.

    Raises :class:`~laminar.errors.OutputError` from every method that touches the disk.
    """

    def __init__(self, out: Path, run_id: str, *, overwrite: bool) -> None:
        try:
            self._out = Path(os.path.realpath(out))
        except OSError as error:
            raise OutputError(f"cannot look at {out}: {error.strerror}") from error
        self._shown = out
        self._run_id = run_id
        self._overwrite = overwrite
        self._inside = False
        self._created: list[Path] = []
        self._published = False

    @property
    def folder(self) -> Path:
        """Where the files go before they are published."""
        return self._hidden("staging")

    def __enter__(self) -> Self:
        self._check_place()
        self._check_output()
        try:
            self._inside = self._out.exists() and outputs.is_fixed(self._out)
            self._make_parents()
            self._remove_leftovers()
            self.folder.mkdir()
        except OSError as error:
            self._remove_parents()
            where = self._shown if self._inside else self._out.parent
            raise OutputError(f"cannot write to {where}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._published:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._remove_parents()

    def publish(self) -> tuple[str, ...]:
        """Put the staged files in the output's place; returns notes on what stays of the old."""
        self._check_output()
        try:
            _sync_folder(self.folder)
            old = self._move_up() if self._inside else self._move_over()
        except OSError as error:
            raise OutputError(f"cannot publish {self._shown}: {error.strerror}") from error
        if old is None:
            return ()
        try:
            outputs.delete_output(old)
        except OSError as error:
            return (f"what was in {self._shown} before is left in {old}: {error.strerror}",)
        return ()

    def _move_over(self) -> Path | None:
        """Rename the staged folder to the output; returns where the old output is, if any."""
        old = self._hidden("old")
        replaced = self._out.exists()
        if replaced:
            os.rename(self._out, old)
        try:
            os.rename(self.folder, self._out)
        except OSError:
            if replaced:
                os.rename(old, self._out)
            raise
        self._published = True
        _sync_folder(self._out.parent)
        return old if replaced else None

    def _move_up(self) -> Path:
        """Rename the staged files into the output; returns where the old ones are.

        All of them are back in their places when this fails.
        """
        old = self._hidden("old")
        names = sorted(os.listdir(self.folder))
        marker = self._out / f"{UNFINISHED}{Path(names[0]).suffix}"
        _write_durably(marker, UNFINISHED_TEXT)
        moves = [(Path(entry.path), old / entry.name) for entry in outputs.entries(self._out)]
        moves = [move for move in moves if move[0] != marker]
        moves += [(self.folder / name, self._out / name) for name in names]
        done: list[tuple[Path, Path]] = []
        try:
            _sync_folder(self._out)
            old.mkdir()
            for source, target in moves:
                os.rename(source, target)
                done.append((source, target))
            _sync_folder(self._out)
        except OSError:
            for source, target in reversed(done):
                os.rename(target, source)
            with suppress(OSError):  # where it failed, it may not be there
                old.rmdir()
            marker.unlink()
            raise
        self._published = True
        marker.unlink()
        self.folder.rmdir()
        _sync_folder(self._out)
        return old

    def _hidden(self, role: str) -> Path:
        if self._inside:
            return self._out / hidden_name(None, role, os.getpid(), self._run_id)
        return self._out.with_name(hidden_name(self._out.name, role, os.getpid(), self._run_id))

    def _check_place(self) -> None:
        """The folder this process is in, and those above it, are nobody's to replace."""
        try:
            here = Path(os.path.realpath(Path.cwd()))
        except OSError:  # it was deleted: nothing can be above it
            return
        if self._out == here or self._out in here.parents:
            raise OutputError(f"{self._shown} is the current folder or one above it: name another")

    def _check_output(self) -> None:
        try:
            if not self._out.exists():
                return
            if not self._out.is_dir():
                raise OutputError(f"{self._shown} exists and is not a folder")
            if next(outputs.entries(self._out), None) is not None:
                self._check_replaceable()
        except OSError as error:
            raise OutputError(f"cannot look at {self._shown}: {error.strerror}") from error

    def _check_replaceable(self) -> None:
        foreign = outputs.foreign(self._out)
        if foreign is not None and self._overwrite:
            raise OutputError(
                f"{self._shown} is not replaced: it holds {foreign!r}, which is no output of "
                "laminar shuffle"
            )
        if not self._overwrite:
            what = "is not empty"
            if outputs.is_unfinished(self._out):
                what = "holds an output that a killed run did not finish"
            raise OutputError(f"{self._shown} exists and {what} (see --overwrite)")
        if not os.access(self._out, os.W_OK | os.X_OK):
            raise OutputError(
                f"cannot replace {self._shown}: no permission to delete what is in it"
            )

    def _make_parents(self) -> None:
        missing = []
        parent = self._out.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            folder.mkdir()
            self._created.append(folder)

    def _remove_parents(self) -> None:
        for folder in reversed(self._created):
            try:
                folder.rmdir()
            except OSError:  # somebody else uses it by now
                return

    def _remove_leftovers(self) -> None:
        if self._inside:
            outputs.remove_leftovers(self._out, None)
        else:
            outputs.remove_leftovers(self._out.parent, self._out.name)


def _write_durably(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
