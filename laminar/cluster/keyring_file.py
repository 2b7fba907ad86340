"""A keyring on disk: a text file with one key per line, which only its owner may read.

::

    # the first key seals, all open
    q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=
    3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8=

Keys are in base64, as ``head -c 32 /dev/urandom | base64`` makes one. Empty lines and what
follows a ``#`` at the start of a line do not count. No message ever shows a key.
"""

from __future__ import annotations

import binascii
import os
import secrets
import stat
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path
from typing import Final

from laminar.cluster.keyring import Keyring
from laminar.config import KEY_BYTES_TYPICAL, KEYRING_FILE_BYTES_MAX
from laminar.errors import ConfigError

_HEADER: Final = "# The keys of a cluster: the first one seals, all open. Keep them secret.\n"


def load(path: str | Path) -> Keyring:
    """Read the keyring in the file ``path``.

    Raises :class:`~laminar.errors.ConfigError`, naming the file and the line, when it cannot be
    read, when others than its owner may read it, or when it is no keyring.
    """
    text = _read(Path(path))
    keys: list[bytes] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            keys.append(_key(entry, f"{path}, line {number}"))
            if keys.count(keys[-1]) > 1:
                raise ConfigError(f"{path}, line {number}: this key is there twice")
    if not keys:
        raise ConfigError(
            f"{path} is no keyring: there is no key in it; `laminar keys new FILE` makes a file "
            "with one"
        )
    try:
        return Keyring(keys)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def save(path: str | Path, keyring: Keyring) -> None:
    """Put ``keyring`` in the file ``path``, whole or not at all, for its owner only.

    What else was in the file, comments for instance, is gone. Raises
    :class:`~laminar.errors.ConfigError` when it cannot be written; the file is then as it was.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        _write(fresh, keyring)
        try:
            fresh.replace(target)
            _sync_folder(target.parent)
        except OSError:
            with suppress(FileNotFoundError):
                fresh.unlink()
            raise
    except OSError as error:
        raise ConfigError(f"cannot save the keyring {path}: {error.strerror}") from error


def create(path: str | Path) -> Keyring:
    """Make a keyring of one new key, in the new file ``path``.

    Raises :class:`~laminar.errors.ConfigError` when there is such a file already, or it cannot
    be written.
    """
    keyring = Keyring([secrets.token_bytes(KEY_BYTES_TYPICAL)])
    target = Path(path)
    try:
        _write(target, keyring)
        _sync_folder(target.parent)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; it may hold the only copy of a key") from None
    except OSError as error:
        raise ConfigError(f"cannot make the keyring {path}: {error.strerror}") from error
    return keyring


def _read(path: Path) -> str:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            _check_private(path, os.fstat(file.fileno()))
            data = file.read(KEYRING_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            f"cannot read the keyring {path}: {error.strerror}; `laminar keys new {path}` makes one"
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is no keyring: it is a folder; name a file in it") from error
    except PermissionError as error:
        raise ConfigError(
            f"cannot read the keyring {path}: {error.strerror}; run this as the file's owner"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read the keyring {path}: {error.strerror}") from error
    if len(data) > KEYRING_FILE_BYTES_MAX:
        raise ConfigError(f"{path} is no keyring: it has more than {KEYRING_FILE_BYTES_MAX} bytes")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no keyring: it is not plain text") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; one that is a pipe has no writer to wait for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is no keyring: it is not a file")
    mode = stat.S_IMODE(status.st_mode)
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(
            f"others than its owner may use the keyring {path} (mode {mode:04o}): run "
            f"`chmod 600 {path}`, and replace its keys if somebody may have read them"
        )


def _key(entry: str, where: str) -> bytes:
    try:
        key = b64decode(entry, validate=True)
    except binascii.Error:
        raise ConfigError(f"{where}: a key is in base64, as `laminar keys new` makes one") from None
    try:
        Keyring([key])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return key


def _write(path: Path, keyring: Keyring) -> None:
    """Make the new file ``path``, and have it on disk."""
    lines = [b64encode(key).decode("ascii") + "\n" for key in keyring.keys]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(_HEADER + "".join(lines))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(FileNotFoundError):
            path.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file on disk, too."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
