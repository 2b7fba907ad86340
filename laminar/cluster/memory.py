"""A ``ClusterKv`` for the nodes of one process: tests, examples and embedded clusters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Self

from anyio.lowlevel import checkpoint

from laminar.cluster.kv import VALUE_BYTES_MAX, KvEvent, check_key, check_value
from laminar.cluster.watcher import Watcher
from laminar.model import NodeId, node_id


class InMemoryKv:
    """One node's handle on a store shared by all handles made from one another.

    A change is seen by every handle at once. All handles belong to one event loop: nothing
    here is safe to use from several threads.

    ::

        kvs = InMemoryKv.cluster(["a", "b"])
        await kvs["a"].write("greeting", "hello")
        await kvs["b"].read_from("a", "greeting")
    """

    def __init__(self, node: str) -> None:
        """Make a store of its own for ``node``; :meth:`for_node` adds nodes to it.

        Raises :class:`~laminar.errors.ConfigError` when ``node`` is no valid node id.
        """
        self._node = node_id(node)
        self._store = _Store()

    @classmethod
    def cluster(cls, nodes: Iterable[str]) -> dict[str, Self]:
        """Return a handle for each of ``nodes``, all on one new store."""
        store = _Store()
        return {name: cls._on(store, name) for name in map(node_id, nodes)}

    def for_node(self, node: str) -> Self:
        """Return the handle of another node on the same store."""
        return self._on(self._store, node_id(node))

    @classmethod
    def _on(cls, store: _Store, node: NodeId) -> Self:
        handle = cls(node)
        handle._store = store
        return handle

    @property
    def local_node(self) -> NodeId:
        """The node whose slot this handle writes."""
        return self._node

    @property
    def value_bytes_max(self) -> int:
        """Bytes of the largest value."""
        return VALUE_BYTES_MAX

    async def write(self, key: str, value: str) -> None:
        """Set ``key`` in the own slot; see :meth:`ClusterKv.write`."""
        check_value(check_key(key), value)
        await checkpoint()
        self._store.set(self._node, key, value)

    async def delete(self, key: str) -> None:
        """Remove ``key`` from the own slot; see :meth:`ClusterKv.delete`."""
        await checkpoint()
        self._store.remove(self._node, key)

    async def read_from(self, node: str, key: str) -> str | None:
        """Return what ``node`` holds under ``key``; see :meth:`ClusterKv.read_from`."""
        await checkpoint()
        return self._store.slots.get(node_id(node), {}).get(key)

    async def scan(self, prefix: str = "") -> dict[NodeId, dict[str, str]]:
        """Return all keys that start with ``prefix``; see :meth:`ClusterKv.scan`."""
        await checkpoint()
        return self._store.scan(prefix)

    @asynccontextmanager
    async def watch(self, prefix: str = "") -> AsyncIterator[AsyncIterator[KvEvent]]:
        """Follow the keys that start with ``prefix``; see :meth:`ClusterKv.watch`."""
        watch = self._store.open_watch(prefix)
        try:
            yield watch
        finally:
            self._store.watches.discard(watch)
            watch.close()


class _Store:
    """All slots of a cluster, and who watches them."""

    def __init__(self) -> None:
        self.slots: dict[NodeId, dict[str, str]] = {}
        self.watches: set[Watcher] = set()

    def set(self, node: NodeId, key: str, value: str) -> None:
        self.slots.setdefault(node, {})[key] = value
        self._tell(node, key, value)

    def remove(self, node: NodeId, key: str) -> None:
        slot = self.slots.get(node, {})
        if slot.pop(key, None) is None:
            return
        if not slot:
            del self.slots[node]
        self._tell(node, key, None)

    def scan(self, prefix: str) -> dict[NodeId, dict[str, str]]:
        found: dict[NodeId, dict[str, str]] = {}
        for node, slot in self.slots.items():
            keys = {key: value for key, value in slot.items() if key.startswith(prefix)}
            if keys:
                found[node] = keys
        return found

    def open_watch(self, prefix: str) -> Watcher:
        watch = Watcher(prefix)
        for node, slot in self.slots.items():
            for key, value in slot.items():
                watch.changed(node, key, value)
        self.watches.add(watch)
        return watch

    def _tell(self, node: NodeId, key: str, value: str | None) -> None:
        for watch in self.watches:
            watch.changed(node, key, value)
