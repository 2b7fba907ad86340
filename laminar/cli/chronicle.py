"""What is worth telling the operator of a node, and in which words. Pure.

Members, peers and counters go in as they are; what comes out are changes, each told once, and
refusals, each reason at once and then at most every ``REPEAT_S``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from laminar.cluster.gossip.member import Member, MemberState
from laminar.model import NodeId
from laminar.shuffle.liveness import PeerEvent, PeerState

REPEAT_S: Final = 60.0
"""How often the same reason is told at most."""

ALONE_S: Final = 5.0
"""How long a node looks for its seeds before it says that it has not found them."""

DATAGRAMS: Final[Mapping[str, str]] = {
    "cluster": "of another cluster: whoever sends them has this node as a seed, and another "
    "--cluster",
    "unsealed": "without a key, where this node asks for one: their sender needs --keys",
    "key": "sealed with a key that this node has not: all nodes need the same --keys",
    "version": "of another version of the gossip: run the same Laminar everywhere",
    "forged": "changed on the way, or made without the key that they name",
    "malformed": "that are no gossip of Laminar's",
    "short": "that are no gossip of Laminar's",
    "size": "larger than datagram_bytes_max",
    "sender": "from a sender with no valid name",
}
"""Those worth telling: what comes twice or late is as the network is."""

CONNECTIONS: Final[Mapping[str, str]] = {
    "cluster": "of another cluster: whoever dials has another --cluster",
    "key": "without a key that this node has: all nodes need the same --keys",
    "certificate": "whose certificate is not trusted, or names another node",
    "tls": "with TLS on one side only, or none in common",
    "magic": "by something that is not Laminar",
    "version": "of another version of the protocol: run the same Laminar everywhere",
    "identity": "under this node's own id",
    "peers": "because there are peers_max of them",
    "connections": "because there are connections_max of them",
    "handshakes": "because handshakes_max of them are introducing themselves",
    "rate": "because more than handshakes_per_s came",
}

NETWORK: Final[Mapping[str, str]] = {
    "resolve": "a seed's name could not be resolved",
    "send": "the system refused to send a datagram",
    "receive": "the system reported an error while receiving datagrams",
}


FATES: Final[Mapping[MemberState, tuple[str, str]]] = {
    MemberState.SUSPECT: ("suspected", "is suspected: nothing is heard of it"),
    MemberState.DEAD: ("died", "is dead: it was suspected and did not show itself"),
    MemberState.LEFT: ("left", "has left"),
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    event: str
    """A short stable word."""
    text: str
    """The same for people."""
    node: str | None = None
    """Whom it is about, if somebody else."""
    addr: str | None = None
    incarnation: int | None = None
    restarted: bool | None = None
    """Whether the node has another life than before."""
    reason: str | None = None
    """Of a refusal: a short stable word."""
    count: int | None = None
    """How many there were since it was last told."""


class Chronicle:
    """What an operator has been told about the cluster of one node."""

    def __init__(self, own: NodeId, *, seeks: bool, now: float) -> None:
        """``seeks``: whether the node was given seeds, which it should find."""
        self._own = own
        self._members: dict[NodeId, Member] = {}
        """The others as they were last told to be."""
        self._found = not seeks
        self._alone_at = now + ALONE_S
        self._told: dict[tuple[str, str], tuple[int, float]] = {}
        """How many refusals of each kind and reason have been told, and when."""

    def member(self, member: Member) -> Event | None:
        """What there is to tell now that a member is so."""
        if member.node == self._own:
            return self._own_state(member)
        before = self._members.get(member.node)
        event = self._other(before, member)
        if event is not None:
            self._members[member.node] = replace(member, addr=event.addr)
        return event

    def keep(self, nodes: Collection[NodeId]) -> None:
        """Forget all members but these, and those whose end is still to be told."""
        for node in self._members.keys() - set(nodes):
            if self._members[node].state.gone:
                del self._members[node]

    def peer(self, event: PeerEvent) -> Event | None:
        """What there is to tell now that a peer of the data plane is so."""
        if event.state is PeerState.RESTARTED:
            text = f"{event.peer} restarted: what was on its way to or from it is lost"
            return Event("peer_restarted", text, node=event.peer)
        if event.state is PeerState.LOST:
            return Event("peer_lost", event.reason, node=event.peer)
        return None

    def alone(self, now: float) -> Event | None:
        """What there is to tell when no seed has answered yet."""
        if self._found or now < self._alone_at:
            return None
        self._alone_at = now + REPEAT_S
        return Event("alone", "no seed has answered yet; `laminar doctor` finds out why")

    def refusals(
        self,
        datagrams: Mapping[str, int],
        sources: Mapping[str, str],
        connections: Mapping[str, int],
        network: Mapping[str, int],
        now: float,
    ) -> Iterator[Event]:
        """What there is to tell of what was refused, given all counts by reason.

        ``sources`` are where the last datagram of each reason came from.
        """
        for kind, noun, words, counts in (
            ("datagrams_refused", "datagram", DATAGRAMS, datagrams),
            ("connections_refused", "connection", CONNECTIONS, connections),
        ):
            for reason, count in self._due(kind, words, counts, now):
                nouns = noun if count == 1 else f"{noun}s"
                source = sources.get(reason) if kind == "datagrams_refused" else None
                at = f" (the last one from {source})" if source else ""
                text = f"refused {count} {nouns}{at} {words[reason]}"
                yield Event(kind, text, addr=source, reason=reason, count=count)
        for reason, count in self._due("network_errors", NETWORK, network, now):
            text = NETWORK[reason] + (f" ({count} times)" if count > 1 else "")
            yield Event("network_errors", text, reason=reason, count=count)

    def _own_state(self, member: Member) -> Event | None:
        if self._found or member.state is not MemberState.ALIVE:
            return None
        self._found = True
        return Event("found", "a seed has answered")

    def _other(self, before: Member | None, member: Member) -> Event | None:
        node, state, addr = member.node, member.state, member.addr
        if state is MemberState.ALIVE:
            return self._alive(before, member) if addr is not None else None
        if before is None or state is MemberState.JOINING or state is before.state:
            return None  # told already, not yet worth it, or long gone when this node came
        word, text = FATES[state]
        return _of(member, word, f"{node} {text} ({before.addr})", before.addr)

    def _alive(self, before: Member | None, member: Member) -> Event | None:
        node, addr = member.node, member.addr
        if before is None:
            return _of(member, "joined", f"{node} has joined at {addr}", addr)
        restarted = member.incarnation > before.incarnation
        if before.state.gone:
            text = f"{node} is back at {addr}" + (", restarted" if restarted else "")
            return _of(member, "returned", text, addr, restarted)
        if restarted:
            return _of(member, "restarted", f"{node} has restarted at {addr}", addr, restarted)
        if before.state is not MemberState.ALIVE:
            return _of(member, "recovered", f"{node} is well again at {addr}", addr)
        if before.addr != addr:
            return _of(member, "moved", f"{node} has moved to {addr}", addr)
        return None

    def _due(
        self, kind: str, words: Mapping[str, str], counts: Mapping[str, int], now: float
    ) -> Iterator[tuple[str, int]]:
        for reason in words:
            count = counts.get(reason, 0)
            told, at = self._told.get((kind, reason), (0, -REPEAT_S))
            if count > told and now >= at + REPEAT_S:
                self._told[kind, reason] = count, now
                yield reason, count - told


def _of(
    member: Member, event: str, text: str, addr: str | None, restarted: bool | None = None
) -> Event:
    incarnation = int(member.incarnation)
    return Event(event, text, member.node, addr, incarnation, restarted)
