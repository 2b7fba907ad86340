"""What is said to whom: fills the messages of one node."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import ceil, log
from random import Random
from typing import NamedTuple

from laminar.cluster.amplification import AddressProof
from laminar.cluster.gossip.codec import (
    BASE_BYTES,
    BEATS_OVERHEAD_BYTES,
    DIGEST_BYTES_MAX,
    MessageWriter,
)
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import (
    LANES,
    Beats,
    Digest,
    Grave,
    Hint,
    Kind,
    LaneDelta,
    LaneDigest,
    Message,
)
from laminar.cluster.gossip.slot import Slot
from laminar.cluster.gossip.view import NOTHING, Versions, View
from laminar.cluster.seal import Sealer
from laminar.config import GossipConfig
from laminar.model import NODE_ID_LENGTH_MAX, NodeId

_ANSWERS = {
    Kind.SYN: Kind.SYN_ACK,
    Kind.PUSH: Kind.SYN_ACK,
    Kind.SYN_ACK: Kind.ACK,
    Kind.ACK: Kind.DELTA,
}
_NOTHING = LaneDigest(0, 0)

SYN_BYTES_MIN = 160
"""So that an answer with any node's digest is allowed; see ``amplification_max``."""


NEAR = 4
"""Views that differ in so many nodes are likely to differ in the news of the day only."""

MANY = 256
"""With more nodes than that, each exchange counts."""

FEW_BYTES = 256
"""Then that much is enough for all in turn."""

GRAVES_MAX = 4
"""Of so many forgotten nodes is told, at most, whoever says that they live, and so many of those
in a round."""

DOUBT_INTERVALS = 10
"""So long after a death it is told to those whose view differs."""


class Outgoing(NamedTuple):
    """A datagram to be sent."""

    addr: str
    datagram: bytes


class Exchange:
    """Writes the messages of one node, within the size of a datagram."""

    def __init__(
        self, config: GossipConfig, view: View, proof: AddressProof, sealer: Sealer
    ) -> None:
        self.datagrams_sent = 0
        self.bytes_sent = 0
        self._config = config
        self._view = view
        self._proof = proof
        self._sealer = sealer
        self._news: dict[NodeId, int] = {}
        """Until which round a node is talked about first."""
        self._round = 0
        self._spread = 1
        self._overhead_bytes = len(sealer.seal(b""))
        spare = NODE_ID_LENGTH_MAX - len(view.own.node)
        self.bytes_min = BASE_BYTES + DIGEST_BYTES_MAX - spare
        """Any message has room in so many bytes of payload."""

    def begin_round(self, round_: int) -> None:
        """News is talked about first for as many rounds as it takes to reach everybody."""
        nodes = len(self._view.slots)
        self._round = round_
        self._spread = 2 + 2 * ceil(log(nodes + 1, self._config.fanout_max + 1))
        self._news = {node: until for node, until in self._news.items() if until >= round_}

    def note(self, node: NodeId) -> None:
        """There is news of ``node``."""
        self._news[node] = self._round + self._spread

    def syn(self, addr: str, differ: bool, now: float, listened: float, rng: Random) -> Outgoing:
        """Begin an exchange with ``addr``, with digests if its view is likely to ``differ``."""
        writer = self._opening(Kind.SYN, addr, now)
        roll, own = self._view.roll, self._view.own.node
        beats = roll.call(writer.free_bytes - BEATS_OVERHEAD_BYTES)
        writer.add_beats(beats)
        if differ:
            said = {own}
            self.add_news(writer, said, listened, rng)
            self.add_all_in_turn(writer, said, 0, listened)
        # Who may not know this life is told of it.
        known = own not in self._news and self.knows(addr, now)
        writer.leaves_out_own = known and roll.is_whole(beats)
        return self.send(addr, writer)

    def question(self, slot: Slot, addr: str, lossy: bool, now: float) -> Outgoing:
        """Ask a node that does not answer to show that it lives, later than is known here.

        Where much is lost, that is also a time to compare views.
        """
        writer = self._opening(Kind.SYN, addr, now)
        writer.add_hint(_hint(slot))
        if lossy:
            writer.add_beats(self._view.roll.part(0, 0))
        return self.send(addr, writer)

    def push(
        self,
        addr: str,
        news: dict[NodeId, Versions | None],
        accused: list[NodeId],
        now: float,
        listened: float,
    ) -> Outgoing:
        """Tell what is new, and of whom it is said that they do not answer."""
        writer = self._opening(Kind.PUSH, addr, now)
        slots = self._view.slots
        for node in accused:
            if node in slots and not writer.add_hint(_hint(slots[node])):
                break
        proven = self.knows(addr, now)
        told: list[tuple[Slot, Versions]] = []
        for node, before in news.items():
            slot = slots.get(node)
            if slot is None or not self._view.tells(slot, listened):
                continue
            # A delta says as much as a digest, but for a life that may not be known.
            brief = proven and before is not None and before > NOTHING
            if not (brief or slot is self._view.own or writer.add_digest(slot.digest)):
                break
            if before is not None:
                told.append((slot, before))
        for number in LANES if proven else ():
            for slot, before in told:
                lane = slot.lane(number)
                if lane.complete and before[number] < lane.max_version:
                    writer.add_delta(_delta(slot, number, before[number], now))
        return self.send(addr, writer)

    def pass_on(self, graves: Iterable[Grave], now: float) -> list[Outgoing]:
        """Tell those who live that somebody takes their lives for old ones.

        Two that have forgotten each other do not speak to each other.
        """
        out: list[Outgoing] = []
        for grave in graves:
            slot = self._view.slots.get(grave.node)
            if slot is None or slot.state.gone or slot.incarnation > grave.incarnation:
                continue
            if slot.addr is not None and len(out) < GRAVES_MAX:
                writer = self._opening(Kind.PUSH, slot.addr, now)
                writer.add_grave(grave)
                out.append(self.send(slot.addr, writer))
        return out

    def _opening(self, kind: Kind, addr: str, now: float) -> MessageWriter:
        """A message that answers none; if it may be the first one, not too small to be answered."""
        writer = self.writer(kind, addr, b"", self._sealer.payload_bytes_max, now)
        if not self.knows(addr, now):
            writer.pad(SYN_BYTES_MIN)
        return writer

    def answer(self, source: str, message: Message) -> Answer:
        """Begin the answer to a message."""
        return Answer(self, self._view, source, message)

    def writer(
        self, kind: Kind, addr: str, echo: bytes, limit_bytes: int, now: float
    ) -> MessageWriter:
        """A message to ``addr`` that begins with the own digest."""
        cookie = b"" if self.knows(addr, now) else self._proof.cookie(addr, now)
        return MessageWriter(kind, cookie, echo, self._view.own.digest, limit_bytes)

    def knows(self, addr: str, now: float) -> bool:
        """Whether ``addr`` has proven that it receives what is sent there."""
        return self._proof.is_proven(addr, now)

    def limits(self, source: str, now: float) -> tuple[int, int]:
        """Most datagrams in an answer to ``source``, and most bytes of payload in each."""
        largest = self._sealer.payload_bytes_max
        if self.knows(source, now):
            return self._config.delta_datagrams_max, largest
        allowed = self._proof.allowed_bytes(source, now)
        return 1, min(largest, allowed - self._overhead_bytes)

    def send(self, addr: str, writer: MessageWriter) -> Outgoing:
        """Seal a message."""
        datagram = self._sealer.seal(writer.finish(), addr)
        self._proof.on_sent(addr, len(datagram))
        self.datagrams_sent += 1
        self.bytes_sent += len(datagram)
        return Outgoing(addr, datagram)

    def add_news(
        self, writer: MessageWriter, said: set[NodeId], listened: float, rng: Random
    ) -> None:
        """Talk about those of whom there is news, with half of what room there is."""
        enough = writer.free_bytes // 2
        news = [node for node in self._news if node not in said]
        rng.shuffle(news)
        for node in news:
            slot = self._view.slots.get(node)
            if slot is None or not self._view.tells(slot, listened):
                continue
            if writer.free_bytes < enough or not writer.add_digest(slot.digest):
                break
            said.add(node)

    def is_near(self, beats: Beats | None) -> bool:
        """Whether a view that differs has at least about as many nodes."""
        nodes = len(self._view.roll)
        return beats is not None and abs(nodes - 2 * len(beats.low)) <= NEAR and nodes < MANY

    def add_doubts(self, writer: MessageWriter, listened: float) -> None:
        """Who seems not to be there: who thinks otherwise may have missed that."""
        since = listened - self._config.interval_s * DOUBT_INTERVALS
        for slot in self._view.others():
            lately = slot.state is MemberState.DEAD and slot.since > since
            if (lately or slot.state is MemberState.SUSPECT) and not writer.add_hint(_hint(slot)):
                break

    def add_all_in_turn(
        self, writer: MessageWriter, said: set[NodeId], enough: int, listened: float
    ) -> None:
        """Talk about all others, as far as there is room; those that follow are next."""
        view = self._view

        def fits(node: NodeId) -> bool:
            slot = view.slots[node]
            if node in said or not view.tells(slot, listened):
                return True
            return writer.free_bytes >= enough and writer.add_digest(slot.digest)

        view.rotation.take(fits)


class Answer:
    """Gathers what to say to one message, then says it."""

    def __init__(self, exchange: Exchange, view: View, source: str, message: Message) -> None:
        self._exchange = exchange
        self._view = view
        self._source = source
        self._message = message
        self._said = {digest.node for digest in message.digests}
        self._graves: list[Grave] = []
        self._beats: Beats | None = None
        self._differs = False
        self._missing: dict[NodeId, Slot] = {}
        self._weighed: list[tuple[Digest, Slot]] = []

    def weigh(self, digest: Digest, heard: Slot | Grave | None) -> None:
        """The other side has so much of a slot; here is what is known of it."""
        if isinstance(heard, Slot):
            self._weighed.append((digest, heard))
        elif heard is not None and len(self._graves) < GRAVES_MAX:
            self._graves.append(heard)

    def miss(self, slot: Slot) -> None:
        """The other side has told what came after something that is missing here."""
        if all(slot is not weighed for _, weighed in self._weighed):
            self._missing[slot.node] = slot

    def compare(self, beats: Beats, agrees: bool, sender: NodeId) -> None:
        """The other side has told the heartbeats of its view, which is that of this node or not."""
        self._beats, self._differs = beats, not agrees
        grave = self._view.graves.get(sender)
        if grave is not None and not self._message.digests:
            self._graves.append(Grave(sender, grave[0]))

    def finish(self, now: float, listened: float, rng: Random) -> list[Outgoing]:
        """The datagrams that make up the answer."""
        kind = _ANSWERS.get(self._message.kind)
        if kind is None:
            return []
        datagrams_max, limit_bytes = self._exchange.limits(self._source, now)
        if limit_bytes < self._exchange.bytes_min:
            self._view.drops["small"] += 1
            return []
        asks = kind is Kind.SYN_ACK and not self._exchange.knows(self._source, now)
        echo = self._message.cookie
        deltas = self._deltas(now, listened)
        out: list[Outgoing] = []
        writer = self._exchange.writer(kind, self._source, echo, limit_bytes, now)
        if kind is not Kind.DELTA:
            self._add_digests(writer, bool(deltas), listened, rng)
        while True:
            while deltas:
                rest = writer.add_delta(deltas[0])
                if rest is not None:
                    deltas[0] = rest
                    break
                deltas.popleft()
            if not writer.says_more and (out or not self._must_be(kind)):
                break
            writer.asks_proof = asks and not out
            out.append(self._exchange.send(self._source, writer))
            if not deltas or len(out) >= datagrams_max:
                break
            writer = self._exchange.writer(Kind.DELTA, self._source, echo, limit_bytes, now)
        return out

    def _must_be(self, kind: Kind) -> bool:
        """Whether an answer is due that says nothing."""
        return self._message.kind is Kind.SYN or (kind is Kind.ACK and self._message.asks_proof)

    def _add_digests(
        self, writer: MessageWriter, deltas: bool, listened: float, rng: Random
    ) -> None:
        """Heartbeats if the views are equal, else digests; half of the room is for deltas."""
        enough = writer.free_bytes // 2 if deltas else 0
        for grave in self._graves:
            writer.add_grave(grave)
        asked = self._message.kind is Kind.SYN
        if asked and self._beats is not None and not self._differs:
            self._add_beats(writer, self._beats)
        wanted, newer = self._wanted_and_newer(listened)
        for slot in wanted:
            if writer.free_bytes < enough or not writer.add_digest(slot.digest):
                return
        explained = False
        if asked and self._differs:
            before = writer.free_bytes
            self._exchange.add_doubts(writer, listened)
            self._exchange.add_news(writer, self._said, listened, rng)
            explained = writer.free_bytes < before
        for slot in newer:
            if writer.free_bytes < enough or not writer.add_digest(slot.digest):
                return
        if asked and self._differs:
            few = explained and self._exchange.is_near(self._beats)
            enough = max(enough, writer.free_bytes - FEW_BYTES) if few else enough
            self._exchange.add_all_in_turn(writer, self._said, enough, listened)

    def _wanted_and_newer(self, listened: float) -> tuple[list[Slot], list[Slot]]:
        """Of whom the other side knows more than this one, and of whom it knows less."""
        wanted, newer = list(self._missing.values()), []
        for digest, slot in self._weighed:
            goodbye = slot.state is MemberState.LEFT and digest is self._message.digests[0]
            if slot is self._view.own:
                continue
            if _ahead(digest, slot):
                wanted.append(slot)
            elif (goodbye or _behind(digest, slot)) and self._view.tells(slot, listened):
                newer.append(slot)
        return wanted, newer

    def _add_beats(self, writer: MessageWriter, theirs: Beats) -> None:
        """The same heartbeats as they are known here, if any of them is newer."""
        mine = self._view.roll.part(theirs.start, 2 * len(theirs.low))
        if mine.low != theirs.low:
            writer.add_beats(mine)
            writer.leaves_out_own = self._view.roll.is_whole(mine)

    def _deltas(self, now: float, listened: float) -> deque[LaneDelta]:
        """What the other side lacks, what matters before all else."""
        lacking = [
            (digest, slot)
            for digest, slot in self._weighed
            if _lacks(digest, slot) and self._view.tells(slot, listened)
        ]
        deltas: deque[LaneDelta] = deque()
        for number in LANES:
            for digest, slot in lacking:
                lane = slot.lane(number)
                same = digest.incarnation == slot.incarnation
                start = lane.start_for(digest.lane(number) if same else _NOTHING)
                if start is not None:
                    deltas.append(_delta(slot, number, start, now))
        return deltas


def _delta(slot: Slot, number: int, start: int, now: float) -> LaneDelta:
    """What changed in a lane after version ``start``."""
    lane = slot.lane(number)
    items = lane.since(start, now)
    node, incarnation = slot.node, slot.incarnation
    return LaneDelta(node, incarnation, number, start, lane.max_version, lane.gc_version, items)


def _hint(slot: Slot) -> Hint:
    return Hint(slot.node, slot.incarnation, slot.heartbeat)


def _lacks(theirs: Digest, slot: Slot) -> bool:
    """Whether there are changes here that the other side has not."""
    return theirs.incarnation < slot.incarnation or (
        theirs.incarnation == slot.incarnation
        and (
            theirs.priority_max < slot.priority.max_version
            or theirs.bulk_max < slot.bulk.max_version
        )
    )


def _ahead(theirs: Digest, slot: Slot) -> bool:
    """Whether the other side has changes that are not here."""
    return theirs.incarnation == slot.incarnation and (
        theirs.priority_max > slot.priority.max_version or theirs.bulk_max > slot.bulk.max_version
    )


def _behind(theirs: Digest, slot: Slot) -> bool:
    """Whether the other side knows an older life or heartbeat."""
    return (theirs.incarnation, theirs.heartbeat) < (slot.incarnation, slot.heartbeat)
