"""Standard output and error, which may be closed, full, or read by somebody who has left."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def open_closed() -> None:
    """Open the null device in place of standard streams that this process was started without.

    Else the next file or socket would get their numbers, and what is printed.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r"))


def complain(text: str) -> None:
    """Print on standard error, if anybody can read that."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        give_up(sys.stderr)


def settle() -> None:
    """Print what is still held back, so that Python need not try, and complain, at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            give_up(stream)


def give_up(stream: TextIO) -> None:
    """Have a stream that cannot be written lead nowhere, with what it holds back."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
