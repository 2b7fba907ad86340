"""The output folder: written aside, published at the end, whole or not at all.

The files are written into a hidden folder beside the output (the same file system, so that
publishing is a rename). An existing output is moved aside first, and comes back when
publishing fails; it is deleted only after the new one is in its place.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from laminar.errors import OutputError


class Staging:
    """A folder to write into, until :meth:`publish`; as a context manager it cleans up.

    Raises :class:`~laminar.errors.OutputError` from every method that touches the disk.
    """

    def __init__(self, out: Path, run_id: str, *, overwrite: bool) -> None:
        self._out = Path(os.path.realpath(out))
        self._shown = out
        self._run_id = run_id
        self._overwrite = overwrite
        self._created: list[Path] = []
        self._published = False

    @property
    def folder(self) -> Path:
        """Where the files go before they are published."""
        return self._hidden("staging")

    def __enter__(self) -> Self:
        self._check_output()
        try:
            self._make_parents()
            self._remove_leftovers()
            self.folder.mkdir()
        except OSError as error:
            self._remove_parents()
            raise OutputError(f"cannot write to {self._out.parent}: {error.strerror}") from error
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

    def publish(self) -> None:
        """Put the staged folder in the output's place."""
        self._check_output()
        old = self._hidden("old")
        try:
            _sync_folder(self.folder)
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
        except OSError as error:
            raise OutputError(f"cannot publish {self._shown}: {error.strerror}") from error
        if replaced:
            shutil.rmtree(old, ignore_errors=True)

    def _hidden(self, role: str) -> Path:
        """Named after this process, so that a later run can tell whose leftovers it finds."""
        name = f".{self._out.name}.laminar-{role}-{os.getpid()}-{self._run_id}"
        return self._out.with_name(name)

    def _check_output(self) -> None:
        try:
            if not self._out.exists():
                return
            if not self._out.is_dir():
                raise OutputError(f"{self._shown} exists and is not a folder")
            if any(self._out.iterdir()) and not self._overwrite:
                raise OutputError(f"{self._shown} exists and is not empty (see --overwrite)")
        except OSError as error:
            raise OutputError(f"cannot look at {self._shown}: {error.strerror}") from error

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
        """Remove what a killed run left behind; never an old output, which may be the only one."""
        pattern = re.compile(re.escape(f".{self._out.name}.laminar-staging-") + r"(\d+)-\w+")
        for entry in self._out.parent.iterdir():
            match = pattern.fullmatch(entry.name)
            if match and not _is_alive(int(match.group(1))):
                shutil.rmtree(entry, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
