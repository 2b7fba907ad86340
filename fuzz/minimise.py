"""The smallest input that still fails: cut out stretches, try each in a process of its own."""

from __future__ import annotations

import faulthandler
import os
import resource
import time
import warnings
from collections.abc import Callable

Check = Callable[[bytes], None]


def dies(check: Check, data: bytes) -> int:
    """How a process ends that checks ``data``: 0 when well, else its wait status."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; this child waits for none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _be_quiet()
        try:
            check(data)
        except BaseException:  # noqa: BLE001 - whatever it is, the status tells
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _be_quiet() -> None:
    """No traceback and no core file of what is expected to fail."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def minimise(check: Check, data: bytes, seconds_max: float) -> bytes:
    """Shrink ``data`` for as long as it fails in the same way; needs ``fork``."""
    deadline = time.monotonic() + seconds_max
    how = dies(check, data)
    if how == 0:
        return data  # only the state of a long run makes it fail
    size = len(data) // 2
    while size and time.monotonic() < deadline:
        start = 0
        while start < len(data) and time.monotonic() < deadline:
            shorter = data[:start] + data[start + size :]
            if dies(check, shorter) == how:
                data = shorter
            else:
                start += size
        size //= 2
    return data
