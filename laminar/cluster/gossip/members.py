"""Who wants to know how the members are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self

import anyio
from anyio.lowlevel import checkpoint

from laminar.cluster.gossip.member import Member
from laminar.errors import ClosedError
from laminar.model import NodeId


class MemberWatches:
    """Those who follow the members of one node's view."""

    def __init__(self) -> None:
        self._watches: set[_MemberWatch] = set()

    def changed(self, member: Member) -> None:
        """A member is new, or in another state."""
        for watch in self._watches:
            watch.changed(member)

    @asynccontextmanager
    async def watch(self, known: Mapping[NodeId, Member]) -> AsyncIterator[AsyncIterator[Member]]:
        """Follow all members, beginning with those that are known.

        A watcher that lags gets one event for each member that changed, the newest.
        """
        watch = _MemberWatch(known)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            watch.close()


class _MemberWatch:
    """The iterator of one watcher."""

    def __init__(self, known: Mapping[NodeId, Member]) -> None:
        self._pending = dict(known)
        self._closed = False
        self._wake = anyio.Event()

    def changed(self, member: Member) -> None:
        self._pending[member.node] = member
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Member:
        # Nothing is awaited between taking an event and returning it: a cancelled reader
        # loses none.
        await checkpoint()
        while True:
            if self._closed:
                raise ClosedError("this watch is read after its `async with` block")
            if self._pending:
                return self._pending.pop(next(iter(self._pending)))
            self._wake = anyio.Event()
            await self._wake.wait()
