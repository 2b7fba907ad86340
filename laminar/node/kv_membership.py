"""Members read off a KV: whoever publishes an address in it is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

import anyio

from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.kv import SHUFFLE_ADDR_KEY, ClusterKv
from laminar.errors import ClosedError, LaminarError
from laminar.following import Followers
from laminar.model import Incarnation, NodeId
from laminar.net.tasks import leave

UNKNOWN_LIFE = Incarnation(0)
"""A KV does not tell the lives of a node apart."""


class KvMembership:
    """The members of a cluster whose discovery is a KV: etcd, a fixed list, or an engine's own.

    A node is ``ALIVE`` while it publishes ``shuffle:addr``, ``SUSPECT`` while a data connection
    to it is broken, and has ``LEFT`` once its address is gone.
    """

    def __init__(self, kv: ClusterKv) -> None:
        self._kv = kv
        self._members: dict[NodeId, Member] = {}
        self._followers: Followers[NodeId, Member] = Followers()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._tasks.start_soon(self._watch)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await leave(self._stack, exc)

    @property
    def kv(self) -> ClusterKv:
        """The keys of all nodes."""
        return self._kv

    def members(self) -> dict[NodeId, Member]:
        """All nodes that have published an address, this one included."""
        return dict(self._members)

    def watch_members(self) -> AbstractAsyncContextManager[AsyncIterator[Member]]:
        """Follow the members, beginning with those that are known."""
        return self._followers.follow(self._members)

    def reachable(self, node: NodeId) -> None:
        """``node`` was just heard of over a data connection."""
        self._doubt(node, MemberState.SUSPECT, MemberState.ALIVE)

    def unreachable(self, node: NodeId) -> None:
        """``node`` could just not be reached over a data connection."""
        self._doubt(node, MemberState.ALIVE, MemberState.SUSPECT)

    async def wait_stopped(self) -> LaminarError:
        """Never returns: nobody takes a node's place in a KV."""
        await anyio.sleep_forever()
        raise ClosedError("a KV stops nobody")

    async def _watch(self) -> None:
        async with self._kv.watch(SHUFFLE_ADDR_KEY) as events:
            async for event in events:
                if event.key != SHUFFLE_ADDR_KEY:
                    continue
                known = self._members.get(event.node)
                addr = event.value or (known.addr if known else None)
                state = MemberState.ALIVE if event.value else MemberState.LEFT
                self._become(Member(event.node, UNKNOWN_LIFE, state, addr))

    def _doubt(self, node: NodeId, before: MemberState, after: MemberState) -> None:
        member = self._members.get(node)
        if member is not None and member.state is before and node != self._kv.local_node:
            self._become(replace(member, state=after))

    def _become(self, member: Member) -> None:
        if self._members.get(member.node) != member:
            self._members[member.node] = member
            self._followers.changed(member.node, member)
