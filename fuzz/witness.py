"""Watches the gossip of one node, whatever it is told: what it may do, and what it may not.

After each datagram, and each tick:

- a datagram that is refused is counted for one reason, changes nothing else and is not answered;
- to an address that is not proven goes one datagram, and at most ``amplification_max`` bytes for
  each that came from it; to others ``delta_datagrams_max``; none larger than a datagram may be;
- whatever is sent can be read by others, and says first who sent it;
- no datagram changes the node's own keys, and who watches was told what can be read;
- memory has its limits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from random import Random

from fuzz.broken import Broken, expect
from fuzz.state import state_of
from laminar.cluster.amplification import SECRET_BYTES, AddressProof
from laminar.cluster.gossip.codec import decode
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.exchange import Outgoing
from laminar.cluster.gossip.messages import Message
from laminar.cluster.gossip.slot import LEFT_KEY, RESERVED_PREFIX, Slot
from laminar.cluster.gossip.statistics import DOUBTED, REFUSED
from laminar.cluster.kv import KvEvent
from laminar.cluster.seal import REASONS, Opened, SealStatistics
from laminar.config import DatagramConfig, GossipConfig
from laminar.errors import ConfigError, ProtocolError
from laminar.model import Incarnation, NodeId, node_id

CONFIG = GossipConfig(
    interval_s=1.0,
    fanout_max=2,
    tombstone_s=8.0,
    tombstones_max=2,
    forget_s=15.0,
    nodes_max=4,
    graves_max=2,
    keys_max=5,
    slot_bytes_max=500,
    delta_datagrams_max=3,
)
DATAGRAMS = DatagramConfig(
    datagram_bytes_max=840, addresses_max=2, proof_lifetime_s=30.0, cookie_lifetime_s=5.0
)
SEAL_BYTES = 45
STATE_BYTES_MAX = 12_000
"""Of all that a node holds: there are few nodes, and each has little to say."""
WALL_NS = 1_700_000_000 * 10**9

NAMES = tuple(map(NodeId, ("me", "a", "b", "c", "d" * 128, "e", "f", "g")))
ADDRS = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1")
"""The first is the node's own, the second that of the honest one."""

WHOLE = REASONS.keys() | REFUSED.keys()
PARTS = DOUBTED.keys()


class Glass:
    """A seal that hides and proves nothing, but takes as much room as the real one."""

    def __init__(self, node: NodeId) -> None:
        self._head = bytes(SEAL_BYTES) + bytes([len(node)]) + node.encode()
        self.payload_bytes_max = DATAGRAMS.datagram_bytes_max - len(self._head)

    def seal(self, payload: bytes, target: str = "") -> bytes:
        """Say who sends it."""
        expect(len(payload) <= self.payload_bytes_max, "a payload does not fit its datagram")
        return self._head + payload

    def open(self, datagram: bytes, source: str, now: float) -> Opened:
        """Believe it."""
        if len(datagram) > DATAGRAMS.datagram_bytes_max:
            raise ProtocolError("size", source)
        name = datagram[SEAL_BYTES + 1 :][: (datagram[SEAL_BYTES : SEAL_BYTES + 1] or b"\0")[0]]
        try:
            sender = node_id(name.decode("ascii"))
        except (ConfigError, UnicodeDecodeError):
            raise ProtocolError("sender", source) from None
        return Opened(sender, datagram[SEAL_BYTES + 1 + len(name) :])

    def statistics(self) -> SealStatistics:
        """Nobody asks."""
        return SealStatistics(0, 0, 0, {})


class Witness:
    """A core with its time, and the books that are kept on it."""

    def __init__(self, number: int, now: float = 1000.0) -> None:
        name, self.addr = NAMES[number], ADDRS[number]
        self.sealer, self.rng, self.now = Glass(name), Random(number), now
        self.proof = AddressProof(bytes([number]) * SECRET_BYTES, DATAGRAMS)
        life = Incarnation(WALL_NS + number)
        self.core = GossipCore(
            name, self.addr, life, self.sealer, self.proof, CONFIG, wall_ns=WALL_NS, now=self.now
        )
        self.credit: Counter[str] = Counter()
        self.cookies: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
        self.told: dict[tuple[NodeId, str], str] = {}
        self.sent: bytes = b""

    def hear(self, source: str, datagram: bytes) -> list[Outgoing]:
        """Take in a datagram, and see that nothing came of it but what may."""
        core = self.core
        drops, own = core.statistics().drops, self._keys()
        proven = self.proof.is_proven(source, self.now)
        stopped = core.error is not None
        sender, message = self._read(datagram)
        # What says who its sender is gets in, unless that is this node itself.
        honest = not isinstance(message, str) and core.node != _speaker(message, sender) == sender
        before = None if honest and not stopped else state_of(core)
        answer = core.on_datagram(source, datagram, self.now, self.rng)
        refused = _counted(drops, core.statistics().drops, sender, message, stopped)
        if refused or stopped:
            expect(not answer, f"{refused} is answered")
            expect(state_of(core) == before, f"{refused} changed something")
        expect(self._keys() == own, "somebody else changed the node's own keys")
        self.credit[source] += len(datagram) * DATAGRAMS.amplification_max
        self._check_answer(source, answer, proven, message)
        self._check_sent(answer)
        return answer

    def _keys(self) -> dict[str, str]:
        return dict(self.core._own.items(self.now))

    def _read(self, datagram: bytes) -> tuple[NodeId | None, Message | str]:
        """Who sends it and what it says, or why it cannot be read."""
        sender = None
        try:
            sender, payload = self.sealer.open(datagram, "", self.now)
            return sender, decode(payload)
        except ProtocolError as error:
            return sender, error.reason

    def _check_answer(
        self, source: str, answer: Sequence[Outgoing], before: bool, message: Message | str
    ) -> None:
        expect({out.addr for out in answer} <= {source}, "somebody else was answered")
        if self.proof.is_proven(source, self.now):
            expect(len(answer) <= CONFIG.delta_datagrams_max, "too many datagrams in an answer")
            if not before:
                echo = b"" if isinstance(message, str) else message.echo
                oldest = self.now - 2 * DATAGRAMS.cookie_lifetime_s
                fresh = self.cookies[source].get(echo, -1.0) >= oldest
                expect(fresh, f"{source} has proven nothing")
            return
        expect(len(answer) <= 1, "more than one datagram to an unproven address")
        self.credit[source] -= sum(len(out.datagram) for out in answer)
        expect(self.credit[source] >= 0, "too much was sent to an unproven address")

    def wait_until(self, now: float) -> None:
        """Let time pass. What runs out meanwhile is told as soon as anything happens."""
        self.now = now
        self.core._view.expire(now)

    def tick(self) -> list[Outgoing]:
        """Begin a round."""
        out = self.core.on_tick(self.now, self.rng)
        expect(len(out) <= 3 * CONFIG.fanout_max + CONFIG.nodes_max, "too much is sent at once")
        self._check_sent(out)
        return out

    def check(self) -> None:
        """Whatever happened, this holds."""
        self._check_events()
        self._check_memory()

    def _check_sent(self, sent: Sequence[Outgoing]) -> None:
        for out in sent:
            expect(len(out.datagram) <= DATAGRAMS.datagram_bytes_max, "a large datagram")
            sender, payload = self.sealer.open(out.datagram, "", self.now)
            try:
                message = decode(payload)
            except ProtocolError as error:
                raise Broken(f"what was sent nobody can read: {error.detail}") from error
            core, speaker = self.core, _speaker(message, sender)
            expect(sender == speaker == core.node, f"sent by {sender} as {speaker}")
            lives = {digest.incarnation for digest in message.digests[:1]}
            expect(lives <= {core.incarnation}, f"sent as of the life {lives}")
            if message.cookie:
                self.cookies[out.addr][message.cookie] = self.now
            self.sent = payload

    def _check_events(self) -> None:
        for event in self.core.take_events():
            if isinstance(event, KvEvent):
                cell = (event.node, event.key)
                expect(self.told.get(cell) != event.value, f"told twice: {event}")
                if event.value is None:
                    del self.told[cell]
                else:
                    self.told[cell] = event.value
        seen = {
            cell: value
            for cell, value in self.told.items()
            if not cell[1].startswith(RESERVED_PREFIX)
        }
        found = self.core.scan("", self.now)
        held = {(node, key): value for node, keys in found.items() for key, value in keys.items()}
        expect(seen == held, f"told {seen}, but {held} is read")

    def _check_memory(self) -> None:
        core, view = self.core, self.core._view
        expect(len(state_of(core)) <= STATE_BYTES_MAX, "too much is remembered")
        expect(len(view.slots) <= CONFIG.nodes_max, "too many nodes")
        expect(len(view.graves) <= CONFIG.graves_max, "too many graves")
        expect(len(view.rotation) == len(view.slots) - 1, "the rotation is not of all others")
        expect(view._mortals <= view.slots.keys(), "keys of nobody may expire")
        expect(view.hot.keys() <= view.slots.keys(), "news of nobody")
        expect(len(core._told) <= CONFIG.nodes_max, "farewells of more nodes than there are")
        expect(len(self.proof._budgets) <= DATAGRAMS.addresses_max, "too many budgets")
        expect(len(self.proof._proven) <= DATAGRAMS.addresses_max, "too many proven addresses")
        for slot in view.slots.values():
            self._check_slot(slot)

    def _check_slot(self, slot: Slot) -> None:
        own = slot is self.core._own
        # A goodbye is written even where there is no room for it.
        goodbye = len(LEFT_KEY) + 1 if own else CONFIG.slot_bytes_max
        expect(slot.size_bytes <= CONFIG.slot_bytes_max + goodbye, "a large slot")
        most = CONFIG.keys_max + 1 if own else 2 * CONFIG.keys_max + CONFIG.tombstones_max
        expect(slot.keys <= most, "too many keys")
        for _, lane in slot.lanes():
            if not len(lane):
                continue
            entries = list(lane._entries.values())
            held = [*lane._entries.items(), *(lane._stale or {}).items()]
            size = sum(len(key.encode()) + len((was.value or "").encode()) for key, was in held)
            expect(lane.size_bytes == size, "bytes are miscounted")
            expect(lane.tombstones == sum(was.value is None for was in entries), "tombstones are")
            versions = [was.version for was in entries]
            expect(versions == sorted(set(versions)), "versions do not grow")
            expect(not versions or versions[-1] <= lane.max_version, "a version nobody has")


def _speaker(message: Message, sender: NodeId | None) -> NodeId | None:
    """Whose digest comes first. Where there is none the whole view stands for it."""
    return message.digests[0].node if message.digests else sender


def _counted(
    before: Mapping[str, int],
    after: Mapping[str, int],
    sender: NodeId | None,
    message: Message | str,
    stopped: bool,
) -> str | None:
    """Why a datagram was refused, if it was; and see to it that the counters tell so."""
    grown = {why: count - before.get(why, 0) for why, count in after.items()}
    grown = {why: count for why, count in grown.items() if count}
    if stopped:
        expect(not grown, "who has stopped counts on")
        return None
    if isinstance(message, str):
        expect(grown == {message: 1}, f"{message} was counted as {grown}")
        expect(message in WHOLE, f"{message} is no reason")
        return message
    whole = grown.keys() & WHOLE
    if whole:
        expect(sum(grown.values()) == 1, f"refused for more than one reason: {grown}")
        return whole.pop()
    expect(grown.keys() <= PARTS, f"{grown} are no reasons")
    expect(sender == _speaker(message, sender), f"{sender} speaks as another")
    parts = len(message.digests) + len(message.deltas) + len(message.graves) + 1
    expect(sum(grown.values()) <= parts, f"{grown} of {parts} parts")
    return None
