"""What one node knows of the whole cluster, and how news changes it.

Only deltas change keys, only digests change heartbeats, and both count only for the newest
incarnation of a node that is known; see :mod:`laminar.cluster.gossip.lane` for what a delta
may do. What is not believed is counted by reason.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from random import Random
from typing import TypeAlias

from laminar.cluster.gossip.codec import (
    ITEM_OVERHEAD_BYTES,
    NUMBER_MAX,
    delta_overhead_bytes,
)
from laminar.cluster.gossip.lane import NEVER, Change, Lane
from laminar.cluster.gossip.liveness import Liveness
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.messages import BULK, PRIORITY, Digest, Grave, LaneDelta
from laminar.cluster.gossip.roll import Roll
from laminar.cluster.gossip.rotation import Rotation
from laminar.cluster.gossip.slot import ADDR_KEY, RESERVED_PREFIX, Slot
from laminar.cluster.kv import KvEvent
from laminar.config import GossipConfig
from laminar.model import Incarnation, NodeId

Event: TypeAlias = KvEvent | Member
"""What changed: a key, or how a node is."""

Versions: TypeAlias = tuple[int, int]
"""How far the lanes of a slot are, the one that travels first being first."""

NOTHING: Versions = (0, 0)
"""How far they are in the beginning."""

_NO_GRAVE = (Incarnation(0), -1)

COLLECTIONS = 16
"""Times that tombstones are looked at while one of them grows old."""


class View:
    """The slots of all nodes that are known, the own one included.

    ``now`` is the time of the caller's clock, ``listened`` that of a clock that rests while
    nobody listens; see :class:`~laminar.cluster.gossip.liveness.Lateness`.
    """

    def __init__(
        self, config: GossipConfig, own: Slot, room_bytes: int, wall_ns: int, now: float
    ) -> None:
        """``room_bytes`` are left in a datagram of any node for a delta of one item."""
        self.own = own
        self.slots: dict[NodeId, Slot] = {own.node: own}
        self.graves: OrderedDict[NodeId, tuple[Incarnation, int]] = OrderedDict()
        """The lives that were forgotten, with their last heartbeat."""
        self.drops: Counter[str] = Counter()
        self.hot: dict[NodeId, Versions] = {}
        """Nodes of which there is news since :meth:`take_news`, and how far they were before."""
        self.roll = Roll(self.slots)
        self.rotation = Rotation()
        """Whose turn it is to be talked about."""
        self.partners = Rotation()
        """Whose turn it is to be talked to."""
        self.expected_s = 2 * config.interval_s
        """How often a sign of life of a node that was just heard of is expected."""
        self._config = config
        self._room_bytes = room_bytes
        self._events: list[Event] = [own.member]
        self._wall_ns = wall_ns - round(now * 1e9)
        self._mortals: set[NodeId] = set()
        """Nodes with keys that have a time to live."""
        self.next_expiry = NEVER
        """When :meth:`expire` has something to do."""
        self._expired = now
        self._next_collection = now

    # -- reading --------------------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """What changed since the last call."""
        events, self._events = self._events, []
        return events

    def take_news(self) -> dict[NodeId, Versions]:
        """Of whom there is news since the last call, and how far they were before it."""
        news, self.hot = self.hot, {}
        return news

    def members(self) -> dict[NodeId, Member]:
        """All nodes that are known, the own one included, but guests that are gone."""
        return {
            node: slot.member
            for node, slot in self.slots.items()
            if slot is self.own or not (slot.state.gone and slot.guest)
        }

    def others(self) -> Iterator[Slot]:
        """Every slot but the own one."""
        own = self.own
        return (slot for slot in self.slots.values() if slot is not own)

    def read(self, node: str, key: str, now: float) -> str | None:
        """What ``key`` of ``node`` reads as; nothing of a node that left."""
        slot = self.slots.get(NodeId(node))
        if slot is None or slot.state is MemberState.LEFT:
            return None
        return slot.read(key, now)

    def scan(self, prefix: str, now: float) -> dict[NodeId, dict[str, str]]:
        """All keys that begin so, by node, but those of nodes that left and the gossip's own."""
        found: dict[NodeId, dict[str, str]] = {}
        for slot in self.slots.values():
            keys = {
                key: value
                for key, value in ({} if self._silent(slot) else slot.items(now))
                if key.startswith(prefix) and not key.startswith(RESERVED_PREFIX)
            }
            if keys:
                found[slot.node] = keys
        return found

    def tells(self, slot: Slot, listened: float) -> bool:
        """Whether others are still told of ``slot``.

        Not of one that is dead: whoever thinks otherwise speaks to it, and sees. And not of one
        that left and will be forgotten soon: who forgot it already would hear of it again.
        """
        if slot.state is MemberState.LEFT:
            return listened - slot.since < self._config.forget_s / 2
        return slot.state is not MemberState.DEAD

    # -- the own slot ---------------------------------------------------------------------------

    def write(self, key: str, value: str | None, now: float, ttl_s: float | None) -> None:
        """Change a key of the own slot; ``None`` deletes it."""
        lane, versions = self.lane_of(key), self.own.versions
        before = lane.read(key, now)
        expires = NEVER if ttl_s is None else now + ttl_s
        lane.set(key, value, now, expires)
        self._note_expiry(self.own, expires)
        self._changed(self.own, versions, [(key, value)] if value != before else [])

    def lane_of(self, key: str) -> Lane:
        """The lane of the own slot that ``key`` belongs to."""
        own = self.own
        return own.priority if key.startswith(self._config.priority_prefixes) else own.bulk

    def renew(self, incarnation: Incarnation) -> None:
        """The own slot has a new incarnation from now on."""
        self.own.incarnation = incarnation
        self._events.append(self.own.member)
        self._changed(self.own, NOTHING, [])

    # -- news -----------------------------------------------------------------------------------

    def entry_bytes_max(self, node: NodeId) -> int:
        """Most bytes that a key of ``node`` and its value may have: each must fit a datagram."""
        return self._room_bytes - delta_overhead_bytes(node) - ITEM_OVERHEAD_BYTES

    def believable(self, incarnation: Incarnation, known: int, now: float) -> bool:
        """Whether an incarnation is not further ahead than any clock may be.

        Without that limit a single lie could leave a node no higher one to take.
        """
        newest = max(known, self._wall_ns + round(now * 1e9))
        return incarnation <= min(newest + self._config.incarnation_ahead_s * 1e9, NUMBER_MAX)

    def meet(self, digest: Digest, now: float, listened: float, rng: Random) -> Slot | Grave | None:
        """Take notice of a life of another node.

        Returns its slot; its grave if it was forgotten; ``None`` if it is not believed.
        A slot of a newer incarnation may be returned.
        """
        node, incarnation = digest.node, digest.incarnation
        slot = self.slots.get(node)
        if slot is not None:
            if incarnation <= slot.incarnation:
                return slot
            known = slot.incarnation
        else:
            known, beat = self.graves.get(node, _NO_GRAVE)
            # A ghost's heart does not beat; who was forgotten while out of reach is no ghost.
            if (incarnation, digest.heartbeat) <= (known, beat):
                self.drops["ghost"] += 1
                return Grave(node, known)
        if not self.believable(incarnation, known, now):
            self.drops["incarnation"] += 1
            return None
        if slot is None and len(self.slots) >= self._config.nodes_max:
            self.drops["nodes"] += 1
            return None
        if slot is not None:
            self._tell_all_gone(slot, now)
        self.graves.pop(node, None)
        liveness = Liveness(listened, self.expected_s)
        slot = Slot(node, incarnation, digest.heartbeat, liveness)
        self.slots[node] = slot
        self.rotation.add(node, rng)
        self.partners.add(node, rng)
        self.hot.pop(node, None)
        self._events.append(slot.member)
        self._changed(slot, NOTHING, [])
        return slot

    def take(self, delta: LaneDelta, now: float, listened: float) -> Slot | None:
        """Apply a delta of another node's slot; return it if something before that is missing."""
        slot = self.slots.get(delta.node)
        if slot is None or slot is self.own or slot.incarnation != delta.incarnation:
            self.drops["unknown"] += 1
            return None
        lane, versions = slot.lane(delta.lane), slot.versions
        if not lane.accepts(delta):
            missing = delta.end > lane.max_version
            self.drops["gap" if missing else "repeated"] += 1
            return slot if missing else None
        if delta.item_bytes_max > self.entry_bytes_max(delta.node):
            # It could not be given on, and would hold up all that is to be said behind it.
            self.drops["large"] += 1
            return None
        other = slot.lane(BULK if delta.lane == PRIORITY else PRIORITY)
        if any(other.entry(item.key) is not None for item in delta.items):
            # An owner has each key in one lane; a liar's would read as two things at once.
            self.drops["lane"] += 1
            return None
        # Twice what an owner may have: a copy that begins anew keeps the old one meanwhile.
        if (
            slot.keys + len(delta.items) > 2 * self._config.keys_max + self._config.tombstones_max
            or slot.size_bytes + delta.size_bytes > 2 * self._config.slot_bytes_max
        ):
            self.drops["full"] += 1
            return None
        changes = lane.apply(delta, now)
        for item in delta.items:
            if item.ttl_ms is not None:
                self._note_expiry(slot, now + item.ttl_ms / 1000)
        if lane.tombstones > self._config.tombstones_max:
            lane.collect(now - self._config.tombstone_s, self._config.tombstones_max)
        self._changed(slot, versions, changes)
        if any(key == ADDR_KEY for key, _ in changes):
            self._events.append(slot.member)
        if slot.left and slot.state is not MemberState.LEFT:
            self._tell_all_gone(slot, now)
            self.become(slot, MemberState.LEFT, listened)
        return None

    def become(self, slot: Slot, state: MemberState, listened: float) -> None:
        """A node is in another state from now on."""
        slot.state = state
        slot.since = listened
        self.roll.changed()
        self._events.append(slot.member)

    def _changed(self, slot: Slot, before: Versions, changes: list[Change]) -> None:
        self.roll.changed()
        self.hot.setdefault(slot.node, before)
        self._tell(slot, changes)

    def _tell(self, slot: Slot, changes: list[Change]) -> None:
        if not self._silent(slot):
            self._events += [KvEvent(slot.node, key, value) for key, value in changes]

    def _tell_all_gone(self, slot: Slot, now: float) -> None:
        if not self._silent(slot):
            self._events += [KvEvent(slot.node, key, None) for key, _ in slot.items(now)]

    def _silent(self, slot: Slot) -> bool:
        return slot.state is MemberState.LEFT and slot is not self.own

    # -- growing old ----------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Delete what had a time to live. To be called before anything else happens."""
        if now < self.next_expiry:
            return
        told, self._expired, self.next_expiry = self._expired, now, NEVER
        for node in list(self._mortals):
            slot = self.slots[node]
            following = NEVER
            for _, lane in slot.lanes():
                changes, versions = lane.expire(now, told), slot.versions
                if slot is self.own and changes:
                    for key, _ in changes:
                        lane.set(key, None, now)
                    self._changed(slot, versions, changes)
                else:
                    self._tell(slot, changes)
                following = min(following, lane.next_expiry_after(now))
            if following == NEVER:
                self._mortals.discard(node)
            self.next_expiry = min(self.next_expiry, following)

    def collect(self, now: float) -> None:
        """Drop old tombstones, of all slots and not too often."""
        if now < self._next_collection:
            return
        age = self._config.tombstone_s
        self._next_collection = now + age / COLLECTIONS
        for slot in self.slots.values():
            for _, lane in slot.lanes():
                if lane.tombstones:
                    lane.collect(now - age, self._config.tombstones_max)

    def forget(self, slot: Slot, now: float) -> None:
        """Drop a node that has been gone for long, and remember only that."""
        self._tell_all_gone(slot, now)
        node = slot.node
        del self.slots[node]
        self.rotation.discard(node)
        self.partners.discard(node)
        self.roll.changed()
        self.hot.pop(node, None)
        self._mortals.discard(node)
        self.graves.pop(node, None)
        last = NUMBER_MAX if slot.state is MemberState.LEFT else slot.heartbeat
        self.graves[node] = (slot.incarnation, last)
        if len(self.graves) > self._config.graves_max:
            self.graves.popitem(last=False)

    def _note_expiry(self, slot: Slot, expires: float) -> None:
        if expires < NEVER:
            self._mortals.add(slot.node)
            self.next_expiry = min(self.next_expiry, expires)
