"""Which numbers of one sender were seen: the sliding window of RFC 4303, section 3.4.3."""

from __future__ import annotations

from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["new", "replay", "late"]


class ReplayWindow:
    """Tells each number once that it is new, whatever the order, in constant memory.

    A number more than ``size`` - 1 below the highest one was perhaps seen: it is ``late``,
    and never new.
    """

    __slots__ = ("_highest", "_mask", "_seen", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._mask = (1 << size) - 1
        self._highest = -1
        self._seen = 0
        """Bit ``n`` is set when ``highest - n`` was seen."""

    def see(self, number: int) -> Verdict:
        """Note ``number``, which is not negative, and say whether it is new."""
        ahead = number - self._highest
        if ahead > 0:
            # A number far ahead must not size a shift.
            moved = self._seen << ahead if ahead < self._size else 0
            self._seen = (moved | 1) & self._mask
            self._highest = number
            return "new"
        if -ahead >= self._size:
            return "late"
        bit = 1 << -ahead
        if self._seen & bit:
            return "replay"
        self._seen |= bit
        return "new"
