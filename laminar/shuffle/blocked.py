"""How long those who want to send have waited for room.

Pure; the driver is :mod:`laminar.shuffle.link`, which tells of waiting only: whoever finds room
at once never asks for the time.
"""

from __future__ import annotations


class Blocked:
    """The waits for one channel, in seconds of any clock that does not go back."""

    __slots__ = ("_counted_until", "_ended_s", "_waiting")

    def __init__(self) -> None:
        self._waiting = 0
        self._ended_s = 0.0
        self._counted_until = 0.0

    def begin(self, now: float) -> None:
        """One more waits."""
        self._ended_s = self.seconds(now)
        self._counted_until = now
        self._waiting += 1

    def end(self, now: float) -> None:
        """One of them does not wait any longer."""
        self._ended_s = self.seconds(now)
        self._counted_until = now
        self._waiting -= 1

    def seconds(self, now: float) -> float:
        """The sum of all waits, those that have not ended included."""
        return self._ended_s + self._waiting * (now - self._counted_until)
