"""Bytes on their way between two simulated hosts.

Pure: time and chance are arguments, and nothing here waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Literal

from laminar.testing.faults import Fault, Faults

Note = Callable[[Fault], None]
"""Called when a fault fired."""


class Path:
    """The way from one host to another; all connections between them share it."""

    def __init__(self) -> None:
        self.cut: Literal["partition", "one_way_partition"] | None = None
        """Why nothing gets through now; it arrives when the path is whole again."""
        self.bit = False
        """Whether the present cut has held anything up."""
        self.refuses = False
        """Whether every dial is turned away."""

    def holds_up(self, note: Note) -> bool:
        """Whether the path is cut, now that something is to go along it."""
        if self.cut is not None and not self.bit:
            self.bit = True
            note(self.cut)
        return self.cut is not None


class Pipe:
    """One direction of a connection: what is on its way, and what waits to be read.

    Both count against one limit, so a reader that does not read stops the writer. Bytes never
    overtake one another. The end (orderly, or a reset) travels behind them.
    """

    def __init__(self, path: Path, faults: Faults, rng: random.Random, note: Note) -> None:
        self.sent = 0
        """Bytes that were ever put in."""
        self.dead_after: float = inf
        """After so many bytes everything vanishes, without an error."""
        self.single = 0
        """So many bytes are delivered one at a time."""
        self.bytes_per_s = inf
        self._path = path
        self._faults = faults
        self._rng = rng
        self._note = note
        self._segments: deque[tuple[float, memoryview]] = deque()
        self._held = 0
        self._last_arrival = 0.0
        self._eof_at = inf
        self._reset_at = inf
        self._gone = False
        self._noted_dead = False

    # -- the writing end -----------------------------------------------------------------

    @property
    def dead(self) -> bool:
        """Whether everything vanishes that is put in now."""
        return self.sent >= self.dead_after

    @property
    def room(self) -> int:
        """How many bytes may be put in now."""
        return max(0, self._faults.buffer_bytes - self._held)

    def push(self, data: memoryview, now: float) -> int:
        """Put in as much of ``data`` as travels together and has room; how much that was."""
        size = min(len(data), self.room, self._faults.segment_bytes)
        if self._gone:
            return size  # nobody reads it any more
        if not self.dead:
            size = min(size, max(1, int(min(self.dead_after, 2**62)) - self.sent))
            self._segments.append((self._arrival(size, now), data[:size]))
        elif not self._noted_dead:
            self._noted_dead = True
            self._note("half_open")
        self.sent += size
        self._held += size
        return size

    def finish(self, now: float) -> None:
        """Nothing more is put in: the end, behind everything on its way."""
        if not self.dead:
            self._eof_at = min(self._eof_at, self._arrival(0, now))

    def reset(self, at: float) -> None:
        """The connection is broken for the reader from ``at`` on; later bytes are lost."""
        if not self.dead:
            self._reset_at = min(self._reset_at, at)

    def abandon(self) -> None:
        """The reader is gone: drop what is here, and whatever comes."""
        self._gone = True
        self._segments.clear()
        self._held = 0

    def _arrival(self, size: int, now: float) -> float:
        if self.bytes_per_s < inf and size:
            self._note("slow_reader")
        on_the_way = self._faults.delay_s + self._rng.random() * self._faults.jitter_s
        start = max(now + on_the_way, self._last_arrival)
        self._last_arrival = start + size / self.bytes_per_s
        return self._last_arrival

    def calm(self) -> None:
        """What has not gone wrong yet never will."""
        self.bytes_per_s = inf
        if not self.dead:
            self.dead_after = inf

    # -- the reading end -----------------------------------------------------------------

    @property
    def unread(self) -> bool:
        """Whether bytes are here or on their way."""
        return bool(self._segments)

    def broken(self, now: float) -> bool:
        """Whether the reset has arrived."""
        return self._reset_at <= now and self._path.cut is None

    def next_event(self) -> float:
        """When the next bytes or the end arrive, as far as is known."""
        if self._path.cut is not None:
            return inf
        first = self._segments[0][0] if self._segments else self._eof_at
        return min(first, self._reset_at)

    def next_reset(self) -> float:
        """When the reset arrives, as far as is known."""
        return self._reset_at if self._path.cut is None else inf

    def pull(self, buffer: memoryview, now: float) -> int | None:
        """Take bytes that have arrived into ``buffer``: how many; 0 at the end.

        ``None`` while nothing has arrived. A reset is not the end: see :meth:`broken`.
        """
        if self._path.cut is not None:
            if self._segments:
                self._path.holds_up(self._note)
            return None
        limit = min(now, self._reset_at)
        if not self._segments:
            return 0 if self._eof_at <= limit else None
        if self._segments[0][0] > limit:
            return None
        wanted = len(buffer)
        if self.single and wanted > 1:
            self.single -= 1
            if self._held > 1:
                self._note("byte_by_byte")
            wanted = 1
        return self._take(buffer, wanted, limit)

    def _take(self, buffer: memoryview, wanted: int, limit: float) -> int:
        taken = 0
        segments = self._segments
        while taken < wanted and segments and segments[0][0] <= limit:
            arrival, data = segments[0]
            size = min(wanted - taken, len(data))
            buffer[taken : taken + size] = data[:size]
            taken += size
            if size == len(data):
                segments.popleft()
            else:
                segments[0] = (arrival, data[size:])
        self._held -= taken
        return taken
