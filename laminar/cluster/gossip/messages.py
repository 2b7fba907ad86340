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
    """The legs of an exchange, and what is said without one. Nothing answers the last leg."""

    SYN = 1
    """Is my view yours? And how is my news to you?"""
    SYN_ACK = 2
    """It is; or else: what you lack, what I lack, and what I have, in part."""
    ACK = 3
    """What you lack, and what I still lack of that which you told me."""
    DELTA = 4
    """What you still lacked."""
    PUSH = 5
    """News. It is answered like a SYN if something is missing, and else not at all."""


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


class Beats(NamedTuple):
    """The heartbeats of the nodes of a view, half a byte each; see :mod:`.roll`."""

    start: int
    """The place of the first in the order of the view."""
    low: bytes
    """The lowest four bits of each heartbeat, those of two in a byte."""
    tag: bytes
    """A hash of the view and of the whole heartbeats."""


class Hint(NamedTuple):
    """A node did not answer the teller. Whoever hears it speaks to the node, and judges itself."""

    node: NodeId
    incarnation: Incarnation
    heartbeat: int
    """The highest that the teller knows."""


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram. Its first digest is the sender's own.

    It has none where the heartbeats of a whole view stand for that one.
    """

    kind: Kind
    cookie: bytes
    """To be echoed by the answer, which thereby proves that its sender is where it says.
    Empty towards an address that is proven."""
    echo: bytes
    """The cookie of the message that this one answers; empty when it had none."""
    digests: Sequence[Digest]
    deltas: Sequence[LaneDelta] = ()
    graves: Sequence[Grave] = ()
    hints: Sequence[Hint] = ()
    beats: Beats | None = None
    asks_proof: bool = False
    """Whether an answer is due even if it says nothing, to prove its sender's address."""

    @property
    def told(self) -> set[NodeId]:
        """The nodes that it talks about."""
        return {digest.node for digest in self.digests} | {delta.node for delta in self.deltas}
