"""``ClusterKv`` on gossip."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import checkpoint

from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.slot import RESERVED_PREFIX
from laminar.cluster.kv import KvEvent
from laminar.cluster.watcher import Watcher
from laminar.errors import NodeIdTakenError
from laminar.model import NodeId, node_id


class GossipKv:
    """One node's handle on what the nodes of its cluster tell of themselves.

    Made by :attr:`GossipAgent.kv <laminar.cluster.gossip.agent.GossipAgent.kv>`. Keys and values
    together must fit a datagram, keys that begin with ``gossip:`` are reserved, and the keys of
    a node are gone once it left, or was dead for long.
    """

    def __init__(self, core: GossipCore, tell: Callable[[], None]) -> None:
        """``tell`` is called after a change of the own slot, to hand out its events."""
        self._core = core
        self._tell = tell
        self._watches: set[Watcher] = set()

    @property
    def local_node(self) -> NodeId:
        """The node whose slot this handle writes."""
        return self._core.node

    @property
    def value_bytes_max(self) -> int:
        """Bytes of the largest value, whatever the key; shorter keys leave room for more."""
        return self._core.value_bytes_max

    async def write(self, key: str, value: str, *, ttl_s: float | None = None) -> None:
        """Set ``key`` in the own slot, for ``ttl_s`` seconds if that is given.

        See :meth:`ClusterKv.write`. Raises :class:`~laminar.errors.NodeIdTakenError` once
        another node has taken this one's id.
        """
        self._check_running()
        self._core.write(key, value, anyio.current_time(), ttl_s)
        self._tell()
        await checkpoint()

    async def delete(self, key: str) -> None:
        """Remove ``key`` from the own slot; see :meth:`ClusterKv.delete`."""
        self._check_running()
        self._core.delete(key, anyio.current_time())
        self._tell()
        await checkpoint()

    async def read_from(self, node: str, key: str) -> str | None:
        """Return what ``node`` holds under ``key``; see :meth:`ClusterKv.read_from`."""
        self._check_running()
        await checkpoint()
        return self._core.read(node_id(node), key, anyio.current_time())

    async def scan(self, prefix: str = "") -> dict[NodeId, dict[str, str]]:
        """Return all keys that start with ``prefix``; see :meth:`ClusterKv.scan`."""
        self._check_running()
        await checkpoint()
        return self._core.scan(prefix, anyio.current_time())

    @asynccontextmanager
    async def watch(self, prefix: str = "") -> AsyncIterator[AsyncIterator[KvEvent]]:
        """Follow the keys that start with ``prefix``; see :meth:`ClusterKv.watch`."""
        self._check_running()
        watch = Watcher(prefix)
        for node, keys in self._core.scan(prefix, anyio.current_time()).items():
            for key, value in keys.items():
                watch.changed(node, key, value)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            watch.close()

    def changed(self, event: KvEvent) -> None:
        """Tell the watchers of a change."""
        if not event.key.startswith(RESERVED_PREFIX):
            for watch in self._watches:
                watch.changed(event.node, event.key, event.value)

    def _check_running(self) -> None:
        if self._core.error is not None:
            # An error of its own: raised again while it is handled, one would be its own context.
            raise NodeIdTakenError(str(self._core.error))
