"""A map whose every change has a number, and copies of it that follow: the heart of the gossip.

The owner numbers its changes 1, 2, 3, ... A copy *at version m* has seen all changes up to m:
it holds the last change of every key that was not changed after m. A delta
``start < version <= end`` holds the last change of each key that was last changed in there, so
a copy at m with ``start <= m < end`` that applies it is a copy at ``end``. Whole or cut short at
any version, from the owner or from another copy, in any order: what a copy claims to have seen
it has seen. (Scuttlebutt: R. van Renesse, D. Dumitriu, V. Gough, C. Thomas, *Efficient
Reconciliation and Flow Control for Anti-Entropy Protocols*, 2008.)

A deletion is a change, and what remains of it is a tombstone. Copies drop tombstones when they
are old, lowest version first, and remember the highest that they dropped as ``gc_version``. A
copy that has not seen that version cannot be brought up from there: nobody would tell it of the
deletion. It begins anew at version 0 with the ``gc_version`` of the copy that it takes from.
Until it is past that version it is *incomplete*:

- what it held before stays readable, so that keys do not vanish for a while;
- it gives to nobody;
- it takes from no copy that still has tombstones where its own start had none, since the key
  might come from there and the news of its deletion from nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import ceil
from typing import NamedTuple, TypeAlias

from laminar.cluster.gossip.messages import Item, LaneDelta, LaneDigest

NEVER = float("inf")


class Entry(NamedTuple):
    """The last change of a key."""

    version: int
    value: str | None
    """``None``: deleted."""
    since: float
    """When this copy heard of it."""
    expires: float
    """From then on the key reads as deleted; :data:`NEVER` for most."""


Change: TypeAlias = tuple[str, str | None]
"""A key and what it reads as now."""


class Lane:
    """One copy of a versioned map, the owner's or another node's."""

    __slots__ = ("_entries", "_stale", "gc_version", "max_version", "size_bytes", "tombstones")

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        """In ascending order of versions."""
        self._stale: dict[str, Entry] | None = None
        """What was held before this copy began anew, while it is incomplete."""
        self.max_version = 0
        self.gc_version = 0
        self.tombstones = 0
        self.size_bytes = 0
        """Of all keys and values, as UTF-8."""

    def __len__(self) -> int:
        return len(self._entries) + len(self._stale or ())

    @property
    def digest(self) -> LaneDigest:
        return LaneDigest(self.max_version, self.gc_version)

    @property
    def complete(self) -> bool:
        """Whether this copy may be given on."""
        return self.max_version >= self.gc_version

    # -- reading ------------------------------------------------------------------------------

    def entry(self, key: str) -> Entry | None:
        """The last change of ``key``, if one is held."""
        found = self._entries.get(key)
        if found is None and self._stale is not None:
            found = self._stale.get(key)
        return found

    def read(self, key: str, now: float) -> str | None:
        """What ``key`` reads as."""
        found = self.entry(key)
        return None if found is None or found.expires <= now else found.value

    def items(self, now: float) -> Iterator[tuple[str, str]]:
        """Every key that is there, with its value."""
        for key, entry in self._entries.items():
            if entry.value is not None and entry.expires > now:
                yield key, entry.value
        for key, entry in (self._stale or {}).items():
            if key not in self._entries and entry.value is not None and entry.expires > now:
                yield key, entry.value

    # -- the owner's ---------------------------------------------------------------------------

    def set(self, key: str, value: str | None, now: float, expires: float = NEVER) -> None:
        """Change ``key``; ``None`` deletes it."""
        self.max_version += 1
        self._put(key, Entry(self.max_version, value, now, expires))

    # -- giving --------------------------------------------------------------------------------

    def start_for(self, other: LaneDigest) -> int | None:
        """After which version a delta for a copy at ``other`` starts; ``None``: it needs none."""
        if not self.complete or other.max_version >= self.max_version:
            return None
        if other.max_version < self.gc_version and other.gc_version < self.gc_version:
            return 0
        if self.gc_version < other.gc_version and other.max_version < other.gc_version:
            return None  # it would refuse; a copy that has dropped as much will give
        return other.max_version

    def since(self, start: int, now: float) -> list[Item]:
        """All changes after version ``start``, in ascending order."""
        items: list[Item] = []
        for key in reversed(self._entries):
            entry = self._entries[key]
            if entry.version <= start:
                break
            ttl_ms = None
            if entry.expires < NEVER and entry.value is not None:
                ttl_ms = ceil((entry.expires - now) * 1000) if entry.expires > now else 0
            items.append(Item(key, entry.version, entry.value, ttl_ms))
        items.reverse()
        return items

    # -- taking --------------------------------------------------------------------------------

    def accepts(self, delta: LaneDelta) -> bool:
        """Whether :meth:`apply` would bring this copy forward and keep what it promises."""
        if self._must_restart(delta):
            return True
        if not delta.start <= self.max_version < delta.end:
            return False
        if self.max_version < delta.gc_version and self.gc_version < delta.gc_version:
            return False
        return self.complete or delta.gc_version >= self.gc_version

    def apply(self, delta: LaneDelta, now: float) -> list[Change]:
        """Take a delta that :meth:`accepts` allows; return what reads differently now."""
        if self._must_restart(delta):
            self._restart(delta.gc_version)
        changes: list[Change] = []
        for item in delta.items:
            if item.version <= self.max_version:
                continue
            before = self.read(item.key, now)
            self._put(item.key, Entry(item.version, item.value, now, _expiry(item, now)))
            after = self.read(item.key, now)
            if after != before:
                changes.append((item.key, after))
        self.max_version = delta.end
        if self._stale is not None and self.complete:
            changes.extend(self._drop_stale(now))
        return changes

    def _must_restart(self, delta: LaneDelta) -> bool:
        return (
            delta.start == 0
            and self.max_version < delta.gc_version
            and self.gc_version < delta.gc_version
        )

    def _restart(self, gc_version: int) -> None:
        stale = {**(self._stale or {}), **self._entries}
        self._stale = {key: entry for key, entry in stale.items() if entry.value is not None}
        self._entries = {}
        self.tombstones = 0
        self.size_bytes = sum(_size(key, entry) for key, entry in self._stale.items())
        self.max_version = 0
        self.gc_version = gc_version

    def _drop_stale(self, now: float) -> list[Change]:
        stale, self._stale = self._stale or {}, None
        changes: list[Change] = []
        for key, entry in stale.items():
            if key not in self._entries:
                if entry.value is not None and entry.expires > now:
                    changes.append((key, None))
                self.size_bytes -= _size(key, entry)
        return changes

    # -- growing old ---------------------------------------------------------------------------

    def expire(self, now: float, told: float) -> list[Change]:
        """The keys whose time ran out after ``told``, up to ``now``."""
        return [
            (key, None)
            for key, entry in chain(self._entries.items(), (self._stale or {}).items())
            if entry.value is not None and told < entry.expires <= now
        ]

    def next_expiry_after(self, now: float) -> float:
        """When the next key that is there now will read as deleted."""
        entries = chain(self._entries.values(), (self._stale or {}).values())
        left = (entry.expires for entry in entries if entry.value is not None)
        return min((expires for expires in left if expires > now), default=NEVER)

    def collect(self, before: float, tombstones_max: int) -> int:
        """Drop the tombstones heard of before that time, and the oldest of too many.

        Returns how many were dropped.
        """
        if not self.tombstones or not self.complete:
            return 0
        spare = self.tombstones - tombstones_max
        doomed: list[tuple[str, Entry]] = []
        for key, entry in self._entries.items():
            if entry.value is not None:
                continue
            if entry.since > before and len(doomed) >= spare:
                break
            doomed.append((key, entry))
        for key, entry in doomed:
            self._remove(key, entry)
            self.gc_version = entry.version
        return len(doomed)

    # -- keeping the books ---------------------------------------------------------------------

    def _put(self, key: str, entry: Entry) -> None:
        old = self._entries.get(key)
        if old is not None:
            self._remove(key, old)
        elif self._stale is not None and key in self._stale:
            self.size_bytes -= _size(key, self._stale.pop(key))
        self._entries[key] = entry
        self.tombstones += entry.value is None
        self.size_bytes += _size(key, entry)

    def _remove(self, key: str, entry: Entry) -> None:
        del self._entries[key]
        self.tombstones -= entry.value is None
        self.size_bytes -= _size(key, entry)


def _expiry(item: Item, now: float) -> float:
    """When the key of an item that just came will read as deleted.

    One that has already is not to be told: nobody was told that it was there.
    """
    if item.ttl_ms is None:
        return NEVER
    return now + item.ttl_ms / 1000 if item.ttl_ms else -NEVER


def _size(key: str, entry: Entry) -> int:
    return len(key.encode()) + len((entry.value or "").encode())
