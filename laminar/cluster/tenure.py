"""A bounded table in which strangers cannot push out those who were there before them.

The invariant: an entry that is seen at least every ``idle_s`` seconds stays, whoever else
comes. A full table makes room for a newcomer by dropping the entry that was silent longest,
if that was longer than ``idle_s``, or else the one that came last. So a flood of newcomers
pushes out newcomers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Entry = TypeVar("Entry")


class Tenure(Generic[Key, Entry]):
    """At most ``entries_max`` entries; all operations take constant time."""

    def __init__(self, entries_max: int, idle_s: float) -> None:
        self._entries_max = entries_max
        self._idle_s = idle_s
        self._entries: dict[Key, Entry] = {}
        """In the order in which they came."""
        self._seen: OrderedDict[Key, float] = OrderedDict()
        """When each was last seen, the longest silent one first."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """Return the entry of ``key``, or ``None``; looking is not seeing."""
        return self._entries.get(key)

    def seen(self, key: Key, now: float) -> None:
        """Note that ``key``, which has an entry, was seen."""
        self._seen[key] = now
        self._seen.move_to_end(key)

    def put(self, key: Key, entry: Entry, now: float) -> None:
        """Give ``key`` an entry and note that it was seen, making room where there is none."""
        if key not in self._entries and len(self._entries) >= self._entries_max:
            self._make_room(now)
        self._entries[key] = entry
        self.seen(key, now)

    def drop(self, key: Key) -> None:
        """Remove ``key``, which has an entry."""
        del self._entries[key]
        del self._seen[key]

    def _make_room(self, now: float) -> None:
        silent, since = next(iter(self._seen.items()))
        self.drop(silent if now - since > self._idle_s else next(reversed(self._entries)))
