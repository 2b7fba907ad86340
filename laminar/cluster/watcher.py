"""The iterator behind ``ClusterKv.watch``, for implementations that hear of changes."""

from __future__ import annotations

from laminar.cluster.kv import KvEvent
from laminar.cluster.watch import WatchQueue
from laminar.following import Follower
from laminar.model import NodeId


class Watcher(Follower[KvEvent]):
    """Tells its reader the latest state of each key that starts with ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._queue = WatchQueue()
        super().__init__(self._queue.take)

    def changed(self, node: NodeId, key: str, value: str | None) -> None:
        """Note that ``key`` of ``node`` now holds ``value``, or is gone when that is ``None``."""
        if key.startswith(self._prefix) and self._queue.changed(node, key, value):
            self.wake()
