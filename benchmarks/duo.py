"""A trial with two processes: one sends, one receives, and the clock is the machine's.

The connection is made and warmed up before the clock starts. It runs from the moment that the
sender is let go until the receiver has taken the last row; both read the system-wide monotonic
clock, so no message between them is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Sample
from benchmarks.process import Child

STEP_TIMEOUT_SECONDS = 60.0


def duo(
    name: str,
    entry: str,
    logs: Path,
    per_second: Callable[[float], float],
    *,
    ours: bool = False,
    **parameters: Any,
) -> Contestant:
    """A contestant whose every trial starts a fresh ``<entry>_receiver`` and ``<entry>_sender``.

    ``per_second`` turns the seconds that a trial took into the contest's unit.
    """
    return Contestant.afresh(name, partial(_trial, entry, logs, per_second, parameters), ours=ours)


def _trial(
    entry: str, logs: Path, per_second: Callable[[float], float], parameters: dict[str, Any]
) -> Sample:
    with ExitStack() as stack:
        receiver = Child(f"{entry}_receiver", logs, **parameters)
        stack.callback(receiver.stop)
        address = receiver.expect(STEP_TIMEOUT_SECONDS)["address"]
        sender = Child(f"{entry}_sender", logs, address=address, **parameters)
        stack.callback(sender.stop)
        sender.expect(STEP_TIMEOUT_SECONDS)
        receiver.expect(STEP_TIMEOUT_SECONDS)
        sender.say(go=True)
        started = sender.expect(STEP_TIMEOUT_SECONDS)["started"]
        ended = receiver.expect(STEP_TIMEOUT_SECONDS)["ended"]
        return Sample(per_second(ended - started))
