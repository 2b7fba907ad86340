"""How a node knows of the others: what the gossip, a fixed list and etcd have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from laminar.cluster.gossip.member import Member
from laminar.cluster.kv import ClusterKv
from laminar.errors import LaminarError
from laminar.model import NodeId


class Membership(Protocol):
    """One node's view of its cluster; :class:`~laminar.GossipAgent` is one.

    An async context manager: it joins on entering its block and leaves with it.
    """

    @property
    def kv(self) -> ClusterKv:
        """The keys of all nodes."""
        ...

    def members(self) -> dict[NodeId, Member]:
        """All nodes that are known, this one included."""
        ...

    def watch_members(self) -> AbstractAsyncContextManager[AsyncIterator[Member]]:
        """Follow the members, beginning with those that are known."""
        ...

    def reachable(self, node: NodeId) -> None:
        """``node`` was just heard of over a data connection."""
        ...

    def unreachable(self, node: NodeId) -> None:
        """``node`` could just not be reached over a data connection."""
        ...

    async def wait_stopped(self) -> LaminarError:
        """Wait until this node is no member any more against its will; return why."""
        ...
