"""How much memory this process takes, as the operating system counts it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def rss_bytes() -> int:
    """Resident memory now."""
    return _status("VmRSS:") or _peak()


def peak_rss_bytes() -> int:
    """The most resident memory this program has had.

    Linux's ``ru_maxrss`` also counts what the parent had when it started this process, so
    the high-water mark of the address space comes first.
    """
    return _status("VmHWM:") or _peak()


def _status(key: str) -> int:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # not Linux
        return 0
    found = next((line for line in lines if line.startswith(key)), None)
    return int(found.split()[1]) << 10 if found else 0


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
