"""Which life of a node begins, remembered in a file from one to the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from laminar.errors import ConfigError
from laminar.model import Incarnation

RESERVE: Final = 1_000_000_000
"""The senders of a life number their sessions upwards from its incarnation; this many at most."""


class Life:
    """Keeps the incarnation of a node in a file, so that the next life has a higher one.

    Whatever becomes of the clock. The file holds one number.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises :class:`~laminar.errors.ConfigError` when the file is no such one."""
        self._path = Path(path)
        self._last = self._read()

    def begin(self, wall_ns: int) -> Incarnation:
        """The incarnation of a life that begins at ``wall_ns``; it is on disk on return."""
        incarnation = Incarnation(max(wall_ns, self._last + 1))
        self.note(incarnation)
        return incarnation

    def note(self, incarnation: int) -> None:
        """This life has that incarnation now.

        Raises :class:`~laminar.errors.ConfigError` when the file cannot be written.
        """
        last = incarnation + RESERVE
        if last <= self._last:
            return
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with beside.open("w", encoding="ascii") as file:
                file.write(f"{last}\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise ConfigError(
                f"cannot write the state file {self._path}: {error.strerror}; the node's next "
                "life might be taken for an older one"
            ) from error
        self._last = last

    def _read(self) -> int:
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return 0
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the state file {self._path}: {error}") from error
        if not text.isdigit() or len(text) > 19:
            raise ConfigError(
                f"the state file {self._path} holds no incarnation but {text[:40]!r}; delete it "
                "if this node's clock is right"
            )
        return int(text)
