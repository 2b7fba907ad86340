"""All that one node knows of another, or of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from laminar.cluster.gossip.lane import Lane
from laminar.cluster.gossip.liveness import Liveness
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.messages import BULK, PRIORITY, Digest, LaneDelta
from laminar.model import Incarnation, NodeId

RESERVED_PREFIX: Final = "gossip:"
"""Keys that the gossip keeps for itself; nobody else sees or writes them."""

ADDR_KEY: Final = "gossip:addr"
"""Where a node gossips, as ``host:port``."""

LEFT_KEY: Final = "gossip:left"
"""There once a node has said goodbye."""

GUEST_KEY: Final = "gossip:guest"
"""There if a node only came to look: once it is gone, it was no member."""

KEY_ORDER_KEY: Final = "gossip:keys:order"
"""There while a node has the others change their keys."""

KEY_REPORT_KEY: Final = "gossip:keys"
"""Which keys a node has, by their ids."""


class Slot:
    """One life of a node: its keys, its heartbeat, and how it seems to be."""

    __slots__ = (
        "bulk",
        "heartbeat",
        "incarnation",
        "liveness",
        "node",
        "priority",
        "reached_until",
        "since",
        "spoke",
        "state",
        "unheard",
        "unreached_until",
    )

    def __init__(
        self, node: NodeId, incarnation: Incarnation, heartbeat: int, liveness: Liveness
    ) -> None:
        self.node = node
        self.incarnation = incarnation
        self.heartbeat = heartbeat
        self.priority = Lane()
        self.bulk = Lane()
        self.liveness = liveness
        self.state = MemberState.JOINING
        self.since = liveness.heard
        """Since when it has been in that state."""
        self.spoke = -1.0
        """When it spoke to this node itself."""
        self.unheard = False
        """Whether it lives, as others tell, although it does not answer this node."""
        self.reached_until = self.unreached_until = -1.0
        """Until when direct evidence for or against it counts."""

    def lane(self, number: int) -> Lane:
        """The lane of that number."""
        return self.priority if number == PRIORITY else self.bulk

    def lanes(self) -> tuple[tuple[int, Lane], tuple[int, Lane]]:
        """Both lanes with their numbers, the one that travels first being first."""
        return ((PRIORITY, self.priority), (BULK, self.bulk))

    @property
    def digest(self) -> Digest:
        priority, bulk = self.priority, self.bulk
        return Digest(
            self.node,
            self.incarnation,
            self.heartbeat,
            priority.max_version,
            priority.gc_version,
            bulk.max_version,
            bulk.gc_version,
        )

    @property
    def versions(self) -> tuple[int, int]:
        """How far both lanes are."""
        return self.priority.max_version, self.bulk.max_version

    @property
    def size_bytes(self) -> int:
        """Bytes of all keys and values."""
        return self.priority.size_bytes + self.bulk.size_bytes

    @property
    def keys(self) -> int:
        """Number of keys, deleted ones included."""
        return len(self.priority) + len(self.bulk)

    def read(self, key: str, now: float) -> str | None:
        """What ``key`` reads as."""
        value = self.priority.read(key, now)
        return self.bulk.read(key, now) if value is None else value

    def items(self, now: float) -> Iterator[tuple[str, str]]:
        """Every key that is there, with its value."""
        yield from self.priority.items(now)
        yield from self.bulk.items(now)

    @property
    def addr(self) -> str | None:
        """Where the node gossips, if that is known."""
        entry = self.priority.entry(ADDR_KEY)
        return None if entry is None else entry.value

    @property
    def left(self) -> bool:
        """Whether the node said goodbye."""
        entry = self.priority.entry(LEFT_KEY)
        return entry is not None and entry.value is not None

    @property
    def guest(self) -> bool:
        """Whether the node only came to look."""
        entry = self.priority.entry(GUEST_KEY)
        return entry is not None and entry.value is not None

    @property
    def member(self) -> Member:
        return Member(self.node, self.incarnation, self.state, self.addr)

    # -- what others say of this slot, told to its owner ------------------------------------------

    def never_said(self, digest: Digest) -> bool:
        """Whether this life is said to have got further than it has."""
        own = self.digest
        return digest.incarnation == own.incarnation and (
            digest.heartbeat > own.heartbeat
            or digest.priority_max > own.priority_max
            or digest.bulk_max > own.bulk_max
        )

    def never_made(self, delta: LaneDelta) -> bool:
        """Whether this life is said to have changed what it has not."""
        return (delta.node, delta.incarnation) == (self.node, self.incarnation) and (
            delta.end > self.lane(delta.lane).max_version
        )
