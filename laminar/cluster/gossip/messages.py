"""What gossiping nodes say to one another, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from laminar.model import Incarnation, NodeId

PRIORITY: Final = 0
"""The lane of keys that travel before all others."""

BULK: Final = 1
"""The lane of all other keys."""

LANES: Final = (PRIORITY, BULK)


class Kind(IntEnum):
    """The legs of an exchange, in order. Nothing answers the last one."""

    SYN = 1
    """What I have, in part."""
    SYN_ACK = 2
    """What you lack, and what I lack."""
    ACK = 3
    """What you lack, and what I still lack of that which you told me."""
    DELTA = 4
    """What you still lacked."""


class LaneDigest(NamedTuple):
    """How far one copy of a lane is."""

    max_version: int
    """The copy holds everything up to this version."""
    gc_version: int
    """Deletions up to this version are no longer held one by one."""


class Digest(NamedTuple):
    """How far one copy of a node's slot is."""

    node: NodeId
    incarnation: Incarnation
    heartbeat: int
    priority_max: int
    priority_gc: int
    bulk_max: int
    bulk_gc: int

    def lane(self, number: int) -> LaneDigest:
        """How far the copy of that lane is."""
        if number == PRIORITY:
            return LaneDigest(self.priority_max, self.priority_gc)
        return LaneDigest(self.bulk_max, self.bulk_gc)


class Item(NamedTuple):
    """One key of a slot on the wire."""

    key: str
    version: int
    value: str | None
    """``None``: deleted."""
    ttl_ms: int | None = None
    """How long the key has yet to live; ``None``: until it is deleted."""

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value, as UTF-8."""
        return len(self.key.encode()) + len((self.value or "").encode())


class LaneDelta(NamedTuple):
    """All that changed in a lane in the versions ``start < version <= end``, and no more."""

    node: NodeId
    incarnation: Incarnation
    lane: int
    start: int
    end: int
    gc_version: int
    """That of the copy which this was taken from."""
    items: Sequence[Item]
    """In ascending order of versions."""

    @property
    def size_bytes(self) -> int:
        """Bytes of its keys and values, as UTF-8."""
        return sum(item.size_bytes for item in self.items)

    @property
    def item_bytes_max(self) -> int:
        """Bytes of the largest key and its value."""
        return max((item.size_bytes for item in self.items), default=0)


class Grave(NamedTuple):
    """Tells a node that it was taken for dead and forgotten; it needs a newer incarnation."""

    node: NodeId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram. Its first digest is the sender's own."""

    kind: Kind
    cookie: bytes
    """To be echoed by the answer, which thereby proves that its sender is where it says."""
    echo: bytes
    """The cookie of the message that this one answers; empty when it answers none."""
    digests: Sequence[Digest]
    deltas: Sequence[LaneDelta] = ()
    graves: Sequence[Grave] = ()
    asks_proof: bool = False
    """Whether an answer is due even if it says nothing, to prove its sender's address."""
