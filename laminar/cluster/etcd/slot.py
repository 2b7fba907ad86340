"""A node's own keys in etcd, and the lease that they hang on.

The invariant: while the node lives and reaches etcd, etcd holds what was confirmed to the
writer, and it holds it no longer than the lease once the node is gone.
"""

from __future__ import annotations

from typing import Final

import anyio

from laminar.cluster.etcd.client import EtcdClient
from laminar.cluster.etcd.layout import Layout
from laminar.cluster.etcd.messages import (
    LEASE_NOT_FOUND,
    Change,
    Json,
    header,
    integer,
    result,
    text,
)
from laminar.cluster.etcd.statistics import EtcdCounters
from laminar.errors import ClosedError, KvRefusedError, KvUnavailableError, ProtocolError
from laminar.model import NodeId

RENEWALS_PER_LEASE: Final = 3
"""How often a lease is renewed before it would end."""

NO_LEASE: Final = 0


class EtcdSlot:
    """The keys of ``node``. Changes happen one after another, so that the last one counts."""

    def __init__(
        self,
        node: NodeId,
        client: EtcdClient,
        layout: Layout,
        lease_s: int,
        counters: EtcdCounters,
    ) -> None:
        self._node = node
        self._client = client
        self._layout = layout
        self._lease_s = lease_s
        self._counters = counters
        self._keys: dict[str, str] = {}
        self._lease = NO_LEASE
        self._closed = False
        self._turn = anyio.Lock()

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._keys)

    async def write(self, key: str, value: str) -> tuple[int, Change]:
        """Set ``key``; return the store's identity and what changed."""
        async with self._turn:
            if self._lease == NO_LEASE:
                await self._replace_lease()
            try:
                confirmed = await self._put(key, value)
            except KvRefusedError as error:
                if error.code != LEASE_NOT_FOUND:
                    raise
                await self._replace_lease()
                confirmed = await self._put(key, value)
            self._keys[key] = value
            return confirmed

    async def delete(self, key: str) -> tuple[int, Change]:
        """Remove ``key``; return the store's identity and what changed."""
        async with self._turn:
            # Should etcd be lost before it answers, the key must not come back with a new lease.
            self._keys.pop(key, None)
            path = self._layout.key(self._node, key)
            answer = await self._client.call("kv/deleterange", {"key": text(path)})
            store, revision = header(answer)
            return store, Change((self._node, key), None, revision)

    async def take_lease(self) -> None:
        """Get a lease for what is going to be written."""
        answer = await self._client.call("lease/grant", {"TTL": str(self._lease_s)})
        self._lease = integer(answer, "ID")

    async def keep_lease(self) -> None:
        """Renew the lease for ever, and replace it when it ended."""
        while True:
            await anyio.sleep(self._lease_s / RENEWALS_PER_LEASE)
            try:
                if not await self._renew():
                    async with self._turn:
                        await self._replace_lease()
            except (KvUnavailableError, KvRefusedError, ProtocolError):
                # The next round tries again; whoever writes meanwhile is told.
                self._counters.renewals_failed += 1

    async def give_up_lease(self) -> None:
        """End the lease, and with it all keys."""
        self._closed = True
        lease, self._lease = self._lease, NO_LEASE
        await self._client.call("lease/revoke", {"ID": str(lease)})

    async def _renew(self) -> bool:
        """Return whether the lease goes on."""
        if self._lease == NO_LEASE:
            return False
        request: Json = {"ID": str(self._lease)}
        return integer(result(await self._client.call("lease/keepalive", request)), "TTL") > 0

    async def _replace_lease(self) -> None:
        if self._closed:
            raise ClosedError("the EtcdKv was closed while this was being written")
        if self._lease != NO_LEASE:
            self._lease = NO_LEASE
            self._counters.leases_lost += 1
        await self.take_lease()
        try:
            for key, value in self._keys.items():
                await self._put(key, value)
        except (KvUnavailableError, KvRefusedError, ProtocolError):
            # Half is not enough: the next round begins with another lease.
            self._lease = NO_LEASE
            raise

    async def _put(self, key: str, value: str) -> tuple[int, Change]:
        request: Json = {
            "key": text(self._layout.key(self._node, key)),
            "value": text(value.encode()),
            "lease": str(self._lease),
        }
        store, revision = header(await self._client.call("kv/put", request))
        return store, Change((self._node, key), value, revision)
