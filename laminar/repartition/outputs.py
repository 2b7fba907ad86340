"""Folders of earlier outputs: recognised, refused when anything else is in them, deleted.

Only files that a run of this command can have written are ever deleted. What else is in a
folder is foreign, and a folder with something foreign in it is nobody's to replace.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from laminar.repartition.naming import UNFINISHED, hidden_pid, is_part

LOST_AND_FOUND: Final = "lost+found"
"""Belongs to the file system of a mount point, not to anybody's data."""


def entries(out: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, but for what runs stage there and what belongs to its file system.

    All functions here raise ``OSError``.
    """
    with os.scandir(out) as found:
        for entry in found:
            if entry.name == LOST_AND_FOUND and os.path.ismount(out):
                continue
            if hidden_pid(entry.name, None, "staging") is None:
                yield entry


def foreign(out: Path) -> str | None:
    """The name of something in a folder that no run of this command wrote, if there is any."""
    names = [entry.name for entry in entries(out) if not _is_ours(entry)]
    return min(names, default=None)


def is_unfinished(out: Path) -> bool:
    """Whether a run was killed while it published into this folder."""
    return any(entry.name.startswith(UNFINISHED) for entry in entries(out))


def delete_output(out: Path) -> None:
    """Delete an earlier output and its folder. What is foreign stays, as does the folder then."""
    for entry in list(entries(out)):
        if _is_ours(entry):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
    os.rmdir(out)


def remove_leftovers(folder: Path, out: str | None) -> None:
    """Remove what killed runs have staged in a folder; never an old output, perhaps the last."""
    for name in os.listdir(folder):
        pid = hidden_pid(name, out, "staging")
        if pid is not None and not _is_alive(pid):
            shutil.rmtree(folder / name, ignore_errors=True)


def is_fixed(folder: Path) -> bool:
    """Whether an existing folder has to stay where it is: nobody, or not we, may rename it."""
    parent = folder.parent
    if _is_mount_point(folder) or not os.access(parent, os.W_OK | os.X_OK):
        return True
    around = parent.stat()
    ours = os.geteuid() in (0, around.st_uid, folder.stat().st_uid)
    return bool(around.st_mode & stat.S_ISVTX) and not ours


def _is_mount_point(folder: Path) -> bool:
    """Unlike ``os.path.ismount`` this knows folders of one file system mounted in another place."""
    if sys.platform != "linux":
        return os.path.ismount(folder)
    escaped = re.sub(rb"[\s\\]", lambda match: b"\\%03o" % ord(match[0]), os.fsencode(folder))
    with open("/proc/self/mountinfo", "rb") as mounts:
        return any(line.split()[4] == escaped for line in mounts)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        pid = hidden_pid(entry.name, None, "old")
        return pid is not None and not _is_alive(pid)
    return entry.is_file(follow_symlinks=False) and is_part(entry.name)


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():  # of a run before this one: containers count from 1 again and again
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
