"""What one watcher has yet to hear: the pure core of ``ClusterKv.watch``.

The invariant: *told* plus the pending events, in any order, is the state of the store.
So however far a watcher lags, it catches up with one event for each key that differs from
what it was told, and whatever a key did in between is not kept.
"""

from __future__ import annotations

from typing import TypeAlias

from laminar.cluster.kv import KvEvent
from laminar.model import NodeId

_Cell: TypeAlias = tuple[NodeId, str]


class WatchQueue:
    """Pending events of one watcher, at most one for each key of a node.

    Memory is bounded by the keys the watcher was told of plus those that exist now: a key
    that came and went unheard leaves nothing behind.
    """

    def __init__(self) -> None:
        self._told: dict[_Cell, str] = {}
        self._pending: dict[_Cell, str | None] = {}

    def __len__(self) -> int:
        """Number of events that :meth:`take` will return."""
        return len(self._pending)

    def changed(self, node: NodeId, key: str, value: str | None) -> bool:
        """Note that ``key`` of ``node`` now holds ``value``, or is gone when that is ``None``.

        Return whether there is now something to tell about that key.
        """
        cell = (node, key)
        if self._told.get(cell) == value:
            self._pending.pop(cell, None)
            return False
        self._pending[cell] = value
        return True

    def take(self) -> KvEvent | None:
        """Return the key that has waited longest with its latest value, ``None`` if none waits."""
        if not self._pending:
            return None
        cell = next(iter(self._pending))
        value = self._pending.pop(cell)
        if value is None:
            del self._told[cell]
        else:
            self._told[cell] = value
        return KvEvent(*cell, value)
