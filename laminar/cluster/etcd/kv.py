"""A ``ClusterKv`` on etcd."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Self

import anyio
import httpx2
from anyio.abc import TaskGroup

from laminar.cluster.etcd.client import EtcdClient
from laminar.cluster.etcd.follower import EtcdFollower
from laminar.cluster.etcd.layout import Layout
from laminar.cluster.etcd.messages import Change, page, text
from laminar.cluster.etcd.reading import read_all
from laminar.cluster.etcd.slot import EtcdSlot
from laminar.cluster.etcd.statistics import EtcdCounters, EtcdStatistics
from laminar.cluster.kv import VALUE_BYTES_MAX, KvEvent, check_key, check_value
from laminar.cluster.watcher import Watcher
from laminar.config import EtcdConfig
from laminar.errors import ClosedError, KvRefusedError, KvUnavailableError, ProtocolError
from laminar.model import NodeId, node_id
from laminar.net.tasks import leave


class EtcdKv:
    """One node's handle on the store that its cluster has in etcd 3.4 or newer.

    ::

        async with EtcdKv("a", EtcdConfig(endpoints=("http://etcd:2379",))) as kv:
            await kv.write("greeting", "hello")

    All keys of a node hang on a lease. Leaving the block ends it, and the keys are gone; when
    the node dies they go ``lease_s`` later. A lease that ended because etcd was out of reach
    for that long is replaced, and the keys are written again.

    Every call may raise :class:`~laminar.errors.KvUnavailableError` after
    ``request_timeout_s``, :class:`~laminar.errors.KvRefusedError`,
    :class:`~laminar.errors.ProtocolError` when etcd answers what it should not, and
    :class:`~laminar.errors.ClosedError` outside the block. A watch raises only the last: it goes
    on when etcd is back.
    """

    def __init__(
        self,
        node: str,
        config: EtcdConfig | None = None,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Name the node and its etcd.

        ``transport`` carries the requests: one with an ``ssl.SSLContext`` of your own, say
        (``httpx2.AsyncHTTPTransport(verify=context)``). ``rng`` spreads repeated attempts.

        Raises :class:`~laminar.errors.ConfigError` when ``node`` is no valid node id.
        """
        self._node = node_id(node)
        self._config = config if config is not None else EtcdConfig()
        self._counters = EtcdCounters()
        self._layout = Layout(self._config.prefix)
        rng = rng if rng is not None else random.Random()
        self._client = EtcdClient(self._config, transport, rng, self._counters)
        self._slot = EtcdSlot(
            self._node, self._client, self._layout, self._config.lease_s, self._counters
        )
        self._followers: dict[Watcher, EtcdFollower] = {}
        self._tasks: TaskGroup | None = None
        self._stack = AsyncExitStack()
        self._entered = False

    @property
    def local_node(self) -> NodeId:
        """The node whose slot this handle writes."""
        return self._node

    @property
    def value_bytes_max(self) -> int:
        """Bytes of the largest value."""
        return VALUE_BYTES_MAX

    async def __aenter__(self) -> Self:
        """Take a lease."""
        if self._entered:
            raise ClosedError("an EtcdKv is entered only once")
        self._entered = True
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._client)
            await self._slot.take_lease()
            self._tasks = await stack.enter_async_context(anyio.create_task_group())
            self._tasks.start_soon(self._slot.keep_lease)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the lease, and with it the keys and the watches."""
        tasks, self._tasks = self._tasks, None
        for watcher in list(self._followers):
            watcher.close()
        if tasks is not None:
            tasks.cancel_scope.cancel()
        # Out of reach of etcd the keys stay until the lease ends; nobody can change that.
        with (
            anyio.CancelScope(shield=True),
            suppress(KvUnavailableError, KvRefusedError, ProtocolError),
        ):
            await self._slot.give_up_lease()
        await leave(self._stack, error)

    async def write(self, key: str, value: str) -> None:
        """Set ``key`` in the own slot; see :meth:`ClusterKv.write`."""
        check_value(check_key(key), value)
        self._check_open()
        self._tell(*await self._slot.write(key, value))

    async def delete(self, key: str) -> None:
        """Remove ``key`` from the own slot; see :meth:`ClusterKv.delete`."""
        self._check_open()
        self._tell(*await self._slot.delete(key))

    async def read_from(self, node: str, key: str) -> str | None:
        """Return what ``node`` holds under ``key``; see :meth:`ClusterKv.read_from`."""
        path = self._layout.key(node_id(node), key)
        self._check_open()
        found = page(await self._client.call("kv/range", {"key": text(path)}), self._layout)
        self._counters.strange_keys += found.strange
        return found.changes[0].value if found.changes else None

    async def scan(self, prefix: str = "") -> dict[NodeId, dict[str, str]]:
        """Return all keys that start with ``prefix``; see :meth:`ClusterKv.scan`."""
        self._check_open()
        everything = await read_all(
            self._client, self._layout, self._config.page_keys_max, self._counters
        )
        found: dict[NodeId, dict[str, str]] = {}
        for change in everything.changes:
            node, key = change.cell
            if change.value is not None and key.startswith(prefix):
                found.setdefault(node, {})[key] = change.value
        return found

    @asynccontextmanager
    async def watch(self, prefix: str = "") -> AsyncIterator[AsyncIterator[KvEvent]]:
        """Follow the keys that start with ``prefix``; see :meth:`ClusterKv.watch`."""
        tasks = self._check_open()
        watcher = Watcher(prefix)
        follower = EtcdFollower(watcher, self._client, self._layout, self._config, self._counters)
        scope = anyio.CancelScope()
        self._followers[watcher] = follower
        tasks.start_soon(self._follow, follower, scope)
        try:
            yield watcher
        finally:
            del self._followers[watcher]
            scope.cancel()
            watcher.close()

    def statistics(self) -> EtcdStatistics:
        """A snapshot."""
        counters = self._counters
        return EtcdStatistics(
            keys=len(self._slot),
            watches=len(self._followers),
            attempts_failed=counters.attempts_failed,
            renewals_failed=counters.renewals_failed,
            leases_lost=counters.leases_lost,
            watch_restarts=counters.watch_restarts,
            rereads=counters.rereads,
            strange_keys=counters.strange_keys,
        )

    async def _follow(self, follower: EtcdFollower, scope: anyio.CancelScope) -> None:
        with scope:
            await follower.run()

    def _tell(self, store: int, change: Change) -> None:
        for follower in self._followers.values():
            follower.own(store, change)

    def _check_open(self) -> TaskGroup:
        if self._tasks is None:
            raise ClosedError("this EtcdKv is not open; use it inside its async with")
        return self._tasks
