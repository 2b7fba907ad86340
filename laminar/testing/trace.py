"""What happened in a simulation, in order, and a hash that is equal for equal runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

TraceValue = str | int | float | bool | None


class Trace:
    """Records events with their virtual time, in seconds since the simulation began."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: list[tuple[TraceValue, ...]] = []

    def record(self, *what: TraceValue) -> None:
        """Note that ``what`` happened now."""
        self._events.append((self._clock(), *what))

    def __len__(self) -> int:
        return len(self._events)

    def lines(self, last: int | None = None) -> list[str]:
        """The events as text, oldest first; only the ``last`` ones if asked."""
        events = self._events if last is None else self._events[-last:]
        return [f"{now:11.6f}  {' '.join(map(str, what))}" for now, *what in events]

    def digest(self) -> str:
        """A hash of all events, the same in every process."""
        text = "\n".join(map(repr, self._events))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
