"""Heartbeats of a whole view, half a byte for each, between two who have the same view.

Where nothing changes all views are equal but for heartbeats. So these travel without the names:
in the order of the names, of each heartbeat the lowest four bits, and a tag, which is a hash of
the view (who is in it, in which life, at which versions) and of the whole heartbeats. Who has the
same view takes each to be the one nearest to what it knows, and knows from the tag whether all of
it is right: that it has the same view, and that no heartbeat was further off than four bits tell.
If not, nothing of it counts, and digests are exchanged.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from laminar.cluster.gossip.codec import NUMBER_MAX, TAG_BYTES
from laminar.cluster.gossip.messages import Beats
from laminar.cluster.gossip.slot import Slot
from laminar.model import NodeId

_ROW: Final = struct.Struct(">QQQB")
_RANGE: Final = 16
"""How many heartbeats are told apart."""


class Beat(NamedTuple):
    """Another's word on a heartbeat."""

    slot: Slot
    heartbeat: int


class Roll:
    """The nodes of a view that are not gone, in the order of their names."""

    def __init__(self, slots: Mapping[NodeId, Slot]) -> None:
        self._slots = slots
        self._order: list[Slot] = []
        self._names: list[NodeId] = []
        self._hash = b""
        self._fresh = False
        self._next = 0

    def changed(self) -> None:
        """A node came, went or changed in any way but by its heartbeat."""
        self._fresh = False

    def __len__(self) -> int:
        return len(self._look())

    def after(self, node: NodeId) -> list[Slot]:
        """All others, beginning with the one that follows ``node`` in a ring of all."""
        order = self._look()
        place = bisect_left(self._names, node)
        ring = order[place:] + order[:place]
        return ring[1:] if ring and ring[0].node == node else ring

    def call(self, room_bytes: int) -> Beats:
        """As many heartbeats as there is room for; those that follow are the next call's."""
        nodes, room = len(self._look()), 2 * max(0, room_bytes)
        start = self._next if self._next < nodes and room < nodes else 0
        self._next = start + room
        return self.part(start, room)

    def part(self, start: int, count: int) -> Beats:
        """The heartbeats of up to so many nodes, an even number, from that place on."""
        beats = [slot.heartbeat for slot in self._look()[start : start + count]]
        low = [beat % _RANGE for beat in beats] + [0] * (len(beats) % 2)
        packed = bytes(
            first * _RANGE + second for first, second in zip(low[::2], low[1::2], strict=True)
        )
        return Beats(start, packed, self._tag(start, beats))

    def is_whole(self, beats: Beats) -> bool:
        """Whether these are the heartbeats of all nodes."""
        return beats.start == 0 and 2 * len(beats.low) >= len(self._look())

    def hear(self, beats: Beats) -> list[Beat] | None:
        """Whose heartbeat is said to be what; ``None`` if it is of another view."""
        order = self._look()[beats.start : beats.start + 2 * len(beats.low)]
        if len(order) + len(order) % 2 != 2 * len(beats.low):
            return None
        low = [part for pair in beats.low for part in divmod(pair, _RANGE)]
        heard: list[int] = []
        for slot, bits in zip(order, low, strict=False):
            ahead = (bits - slot.heartbeat) % _RANGE
            heard.append(slot.heartbeat + ahead - (_RANGE if ahead >= _RANGE // 2 else 0))
        if heard and not 0 <= min(heard) <= max(heard) <= NUMBER_MAX:
            return None
        if self._tag(beats.start, heard) != beats.tag:
            return None
        return list(map(Beat, order, heard))

    def _tag(self, start: int, beats: list[int]) -> bytes:
        self._look()
        text = struct.pack(f">Q{len(beats)}Q", start, *beats)
        return blake2b(text, digest_size=TAG_BYTES, key=self._hash).digest()

    def _counts(self, slot: Slot) -> bool:
        return not slot.state.gone

    def _look(self) -> list[Slot]:
        if not self._fresh:
            self._order = sorted(filter(self._counts, self._slots.values()), key=_name)
            self._names = [slot.node for slot in self._order]
            self._hash = blake2b(b"".join(map(_row, self._order))).digest()
            self._fresh = True
        return self._order


def _name(slot: Slot) -> NodeId:
    return slot.node


def _row(slot: Slot) -> bytes:
    name = slot.node.encode()
    versions = slot.priority.max_version, slot.bulk.max_version
    # With the length of the name no two views have the same rows.
    return _ROW.pack(slot.incarnation, *versions, len(name)) + name
