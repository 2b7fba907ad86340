"""What is said to whom: fills the messages of one node."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import NamedTuple

from laminar.cluster.amplification import AddressProof
from laminar.cluster.gossip.codec import BASE_BYTES, DIGEST_BYTES_MAX, MessageWriter
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.messages import (
    BULK,
    PRIORITY,
    Digest,
    Grave,
    Kind,
    LaneDelta,
    LaneDigest,
    Message,
)
from laminar.cluster.gossip.slot import Slot
from laminar.cluster.gossip.view import View
from laminar.cluster.seal import Sealer
from laminar.config import GossipConfig
from laminar.model import NodeId

_ANSWERS = {Kind.SYN: Kind.SYN_ACK, Kind.SYN_ACK: Kind.ACK, Kind.ACK: Kind.DELTA}
_NOTHING = LaneDigest(0, 0)

SYN_BYTES_MIN = 160
"""So that an answer with any node's digest is allowed; see ``amplification_max``."""


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

    def begin_round(self, round_: int, spread: int) -> None:
        """News is talked about first for ``spread`` rounds."""
        self._round, self._spread = round_, spread
        self._news = {node: until for node, until in self._news.items() if until >= round_}

    def syn(self, addr: str, now: float, listened: float, rng: Random) -> Outgoing:
        """Begin an exchange with ``addr``."""
        largest = self._sealer.payload_bytes_max
        writer = self.writer(Kind.SYN, addr, b"", largest, now)
        said = {self._view.own.node}
        self.add_news(writer, said, listened, rng)
        self._add_all_in_turn(writer, said, listened)
        writer.pad(SYN_BYTES_MIN)
        return self.send(addr, writer)

    def answer(self, source: str, message: Message) -> Answer:
        """Begin the answer to a message."""
        return Answer(self, self._view, source, message)

    def writer(
        self, kind: Kind, addr: str, echo: bytes, limit_bytes: int, now: float
    ) -> MessageWriter:
        """A message to ``addr`` that begins with the own digest."""
        cookie = self._proof.cookie(addr, now)
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
        until = self._round + self._spread
        self._news.update(dict.fromkeys(self._view.take_news(), until))
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

    def _add_all_in_turn(self, writer: MessageWriter, said: set[NodeId], listened: float) -> None:
        view = self._view

        def fits(node: NodeId) -> bool:
            slot = view.slots[node]
            if node in said or not view.tells(slot, listened):
                return True
            return writer.add_digest(slot.digest)

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
        self._weighed: list[tuple[Digest, Slot]] = []

    def weigh(self, digest: Digest, heard: Slot | Grave | None) -> None:
        """The other side has so much of a slot; here is what is known of it."""
        if isinstance(heard, Slot):
            self._weighed.append((digest, heard))
        elif heard is not None and digest is self._message.digests[0]:
            self._graves.append(heard)

    def finish(self, now: float, listened: float, rng: Random) -> list[Outgoing]:
        """The datagrams that make up the answer."""
        kind = _ANSWERS.get(self._message.kind)
        if kind is None:
            return []
        datagrams_max, limit_bytes = self._exchange.limits(self._source, now)
        if limit_bytes < BASE_BYTES + DIGEST_BYTES_MAX:
            self._view.drops["small"] += 1
            return []
        asks = kind is Kind.SYN_ACK and not self._exchange.knows(self._source, now)
        echo = self._message.cookie
        deltas = self._deltas(now, listened)
        out: list[Outgoing] = []
        writer = self._exchange.writer(kind, self._source, echo, limit_bytes, now)
        if kind is not Kind.DELTA:
            self._add_digests(writer, kind, bool(deltas), listened, rng)
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
        return kind is Kind.SYN_ACK or (kind is Kind.ACK and self._message.asks_proof)

    def _add_digests(
        self, writer: MessageWriter, kind: Kind, deltas: bool, listened: float, rng: Random
    ) -> None:
        """What is wanted and what is news, with half of the room if there are deltas."""
        enough = writer.free_bytes // 2 if deltas else 0
        for grave in self._graves:
            writer.add_grave(grave)
        own = self._view.own
        wanted = [
            slot for digest, slot in self._weighed if slot is not own and _ahead(digest, slot)
        ]
        for slot in wanted:
            if writer.free_bytes < enough or not writer.add_digest(slot.digest):
                return
        if kind is not Kind.SYN_ACK:
            return
        self._exchange.add_news(writer, self._said, listened, rng)
        for digest, slot in self._weighed:
            goodbye = slot.state is MemberState.LEFT and digest is self._message.digests[0]
            if slot is own or not (goodbye or _behind(digest, slot)):
                continue
            if not self._view.tells(slot, listened):
                continue
            if writer.free_bytes < enough or not writer.add_digest(slot.digest):
                return

    def _deltas(self, now: float, listened: float) -> deque[LaneDelta]:
        """What the other side lacks, what matters before all else."""
        lacking = [
            (digest, slot)
            for digest, slot in self._weighed
            if _lacks(digest, slot) and self._view.tells(slot, listened)
        ]
        deltas: deque[LaneDelta] = deque()
        for number in (PRIORITY, BULK):
            for digest, slot in lacking:
                lane = slot.lane(number)
                same = digest.incarnation == slot.incarnation
                start = lane.start_for(digest.lane(number) if same else _NOTHING)
                if start is None:
                    continue
                deltas.append(
                    LaneDelta(
                        slot.node,
                        slot.incarnation,
                        number,
                        start,
                        lane.max_version,
                        lane.gc_version,
                        lane.since(start, now),
                    )
                )
        return deltas


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
