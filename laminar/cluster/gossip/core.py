"""The gossip of one node, without any I/O: datagrams and ticks in, datagrams and events out.

Each round a node begins an exchange with another one, and each exchange makes both know what
either knew, as far as it was talked about. Where their views are equal, that is heartbeats. Where
they differ, both tell how far some of their copies are, and bring what the other one lacks.
(Push-pull anti-entropy: A. Demers et al., *Epidemic Algorithms for Replicated Database
Maintenance*, 1987.) News does not wait for that: it is pushed at once.

A digest of all nodes need not fit a datagram. One half of it is for those of whom there is news,
the rest for all in turn, so news travels in a number of rounds that grows with the logarithm of
the cluster, and what was missed comes round in the end.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from laminar.cluster.amplification import AddressProof
from laminar.cluster.gossip.codec import (
    BASE_BYTES,
    DIGEST_BYTES_MAX,
    NODE_BYTES_MAX,
    decode,
)
from laminar.cluster.gossip.exchange import Answer, Exchange, Outgoing
from laminar.cluster.gossip.herald import Herald
from laminar.cluster.gossip.identity import Identity, Verdict
from laminar.cluster.gossip.liveness import Lateness, Liveness
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.messages import Digest, Grave, Hint, Kind, Message
from laminar.cluster.gossip.partners import Partners
from laminar.cluster.gossip.room import check_room, check_writable
from laminar.cluster.gossip.slot import ADDR_KEY, LEFT_KEY, RESERVED_PREFIX, Slot
from laminar.cluster.gossip.statistics import GossipStatistics
from laminar.cluster.gossip.suspicion import Suspicion
from laminar.cluster.gossip.view import Event, View
from laminar.cluster.kv import KEY_LENGTH_MAX
from laminar.cluster.seal import Sealer
from laminar.config import GossipConfig
from laminar.errors import ConfigError, NodeIdTakenError, ProtocolError
from laminar.model import Incarnation, NodeId

DIGEST_BYTES_TYPICAL = 32
"""To guess how long it takes to talk about everybody."""

RENEWAL_STEP_MAX = 2**30
"""As incarnations are nanoseconds, about a second."""

SLOWEST = 3.0
"""By how much rounds are longer, at most, where this process is late again and again."""

JITTER = 0.05
"""Rounds are longer or shorter by up to this part, so that nodes are not in step."""

YOUNG_ROUNDS = 2
"""In its first rounds, whatever a node says is a sign of life."""

FAREWELL_ROUNDS = 5
"""A node that leaves has this many times as many rounds, so that it need not stay for long."""


class GossipCore:
    """One node's part in the gossip.

    ``now`` is seconds of any clock that does not go back, the same for all calls; ``rng`` is
    all the chance there is. Call :meth:`on_tick` at :attr:`due`, which may be earlier after any
    other call, and :meth:`on_datagram` for whatever arrives; send what they return; take
    :meth:`take_events` after either.
    """

    def __init__(
        self,
        node: NodeId,
        addr: str,
        incarnation: Incarnation,
        sealer: Sealer,
        proof: AddressProof,
        config: GossipConfig,
        *,
        wall_ns: int,
        now: float,
    ) -> None:
        """``addr`` is where others reach this node; ``wall_ns`` the time of day at ``now``.

        Raises :class:`~laminar.errors.ConfigError` when the sealer's payloads are too small.
        """
        self.error: NodeIdTakenError | None = None
        """Why this node has stopped, once it has."""
        self.lateness = Lateness(now, config.interval_s)
        self._own = Slot(node, incarnation, 0, Liveness(now, config.interval_s))
        # What is left of a datagram of the node with the longest name for one delta of one item.
        stranger = NODE_BYTES_MAX - 2 - len(node)
        room = sealer.payload_bytes_max - stranger - BASE_BYTES - DIGEST_BYTES_MAX
        self._view = View(config, self._own, room, wall_ns, now)
        self._suspicion = Suspicion(config, self._view, self.lateness)
        self._identity = Identity()
        self._partners = Partners(config, self._view)
        self._herald = Herald(config.interval_s)
        self._proof = proof
        self._exchange = Exchange(config, self._view, proof, sealer)
        self._sealer = sealer
        self._config = config
        self._round = 0
        self._round_due = now
        self._differ = 0
        self._told: set[NodeId] = set()
        self._graves: dict[NodeId, Grave] = {}
        """To be passed on to those who are taken for forgotten, in the next round."""
        self._received: Counter[str] = Counter()
        self.entry_bytes_max = self._view.entry_bytes_max(node)
        """Most bytes of a key and its value together: they must fit a datagram of any node."""
        if self.value_bytes_max < 1:
            raise ConfigError(
                f"a datagram with room for {sealer.payload_bytes_max} bytes is too small for "
                f"gossip: the longest key would not fit; raise the size of datagrams"
            )
        self._view.write(ADDR_KEY, addr, now, None)

    # -- the own slot ---------------------------------------------------------------------------

    @property
    def node(self) -> NodeId:
        """The own node."""
        return self._own.node

    @property
    def incarnation(self) -> Incarnation:
        """The own incarnation, which may grow."""
        return self._own.incarnation

    @property
    def value_bytes_max(self) -> int:
        """Bytes of the largest value that fits whatever its key."""
        return self.entry_bytes_max - KEY_LENGTH_MAX

    def write(self, key: str, value: str, now: float, ttl_s: float | None = None) -> None:
        """Set ``key`` in the own slot, for ``ttl_s`` seconds if that is given.

        Raises :class:`~laminar.errors.ConfigError` when it is reserved, too large for a
        datagram, or one too many; nothing is written then.
        """
        check_room(self._own, key, value, ttl_s, self.entry_bytes_max, self._config)
        self._view.expire(now)
        self._view.write(key, value, now, ttl_s)

    def delete(self, key: str, now: float) -> None:
        """Remove ``key`` from the own slot; one that is not there is no error."""
        check_writable(key)
        self._view.expire(now)
        lane = self._view.lane_of(key)
        if lane.read(key, now) is not None:
            self._view.write(key, None, now, None)
            lane.collect(now - self._config.tombstone_s, self._config.tombstones_max)

    def announce(self, key: str, value: str | None, now: float) -> None:
        """Set one of the gossip's own keys in the own slot, or delete it."""
        if self._view.lane_of(key).read(key, now) != value:
            self._view.write(key, value, now, None)

    def leave(self, now: float) -> None:
        """Say goodbye. Go on ticking until :attr:`farewells` are enough."""
        if self._own.state is not MemberState.LEFT:
            self._round_due = now
            self._view.write(LEFT_KEY, "1", now, None)
            self._view.become(self._own, MemberState.LEFT, self.lateness.listened(now))

    @property
    def farewells(self) -> int:
        """How many nodes are known to have heard the goodbye."""
        return len(self._told)

    # -- reading --------------------------------------------------------------------------------

    def read(self, node: str, key: str, now: float) -> str | None:
        """What ``key`` of ``node`` reads as; ``None`` also for a node that left."""
        return None if key.startswith(RESERVED_PREFIX) else self._view.read(node, key, now)

    def scan(self, prefix: str, now: float) -> dict[NodeId, dict[str, str]]:
        """All keys that begin with ``prefix``, by node; nodes that left are left out."""
        return self._view.scan(prefix, now)

    def members(self) -> dict[NodeId, Member]:
        """All nodes that are known, the own one included, but guests that are gone."""
        return self._view.members()

    def take_events(self) -> list[Event]:
        """What changed since the last call."""
        return self._view.take_events()

    @property
    def alone(self) -> bool:
        """Whether no other node is known that may be alive."""
        return all(slot.state.gone for slot in self._view.others())

    def phi(self, node: NodeId, now: float) -> float:
        """How suspicious the silence of ``node`` is; 0 for one that is not known."""
        slot = self._view.slots.get(node)
        return 0.0 if slot is None or slot is self._own else self._suspicion.phi(slot, now)

    def statistics(self) -> GossipStatistics:
        """A snapshot."""
        exchange = self._exchange
        states = Counter(member.state for member in self.members().values())
        return GossipStatistics(
            rounds=self._round,
            members={state: states[state] for state in MemberState},
            datagrams_sent=exchange.datagrams_sent,
            bytes_sent=exchange.bytes_sent,
            datagrams_received=self._received["datagrams"],
            bytes_received=self._received["bytes"],
            unanswered=self._suspicion.asking.in_vain_total,
            suspicions=self._suspicion.suspected,
            refutations=self._received["refutations"],
            deaths=self._suspicion.died,
            renewals=self._received["renewals"],
            lateness_s=self.lateness.latest_s,
            health_score=self.lateness.score,
            drops=dict(self._view.drops),
        )

    # -- what others tell -------------------------------------------------------------------------

    def set_seeds(self, addrs: tuple[str, ...]) -> None:
        """Where to begin when nobody is known; also spoken to now and then otherwise."""
        seeds = self._partners.seeds = tuple(addr for addr in addrs if addr != self._own.addr)
        if not seeds and self._own.state is MemberState.JOINING:
            self._view.become(self._own, MemberState.ALIVE, self._own.since)

    def reachable(self, node: NodeId, now: float) -> None:
        """This node has just heard from ``node`` otherwise, say over a data connection."""
        slot = self._view.slots.get(node)
        if slot is not None and slot is not self._own:
            self._suspicion.reached(slot, now)

    def unreachable(self, node: NodeId, now: float) -> None:
        """This node has just failed to reach ``node`` otherwise."""
        slot = self._view.slots.get(node)
        if slot is not None and slot is not self._own:
            self._suspicion.unreached(slot, now)

    # -- ticks and datagrams ----------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When :meth:`on_tick` is to be called."""
        if self.error is not None:
            return float("inf")
        news = self._herald.next_at if self._view.hot else self._herald.due
        return min(self._round_due, self._suspicion.due, self._view.next_expiry, news)

    def on_tick(self, now: float, rng: Random) -> list[Outgoing]:
        """Do what is due: begin a round, ask again who has not answered, tell what is new."""
        if self.error is not None:
            return []
        out: list[Outgoing] = []
        if now >= self._round_due:
            out += self._begin_round(now, rng)
        self._view.expire(now)
        lossy = self._suspicion.asking.extra_intervals > 0
        for slot in self._suspicion.take_unanswered(now):
            if slot.addr is not None:
                out.append(self._exchange.question(slot, slot.addr, lossy, now))
        self._gather_news()
        if now >= self._herald.due:
            out += self._tell_news(now, rng)
        return out

    def _begin_round(self, now: float, rng: Random) -> list[Outgoing]:
        config, view = self._config, self._view
        self._round_due = self._next_round(now, rng)
        self.lateness.tick(now, self._round_due)
        self._herald.stretch = self.lateness.stretch
        self._round += 1
        self._own.heartbeat += 1
        view.expire(now)
        view.collect(now)
        if self._identity.tick(self._round) is Verdict.RENEW:
            self._renew(rng)
        self._suspicion.look(now)
        nodes = len(view.slots)
        per_round = self._sealer.payload_bytes_max // DIGEST_BYTES_TYPICAL
        view.expected_s = config.interval_s * (2 + nodes / per_round)
        self._gather_news()
        self._exchange.begin_round(self._round)
        listened = self.lateness.listened(now)
        asking, differ = self._suspicion.asking, self._differ > 2
        out: list[Outgoing] = []
        more = differ and self.lateness.score == 0
        for target in self._partners.choose(self._round, asking, more, rng):
            addr = target if isinstance(target, str) else target.addr
            if addr is not None:
                out.append(self._exchange.syn(addr, differ, now, listened, rng))
            if isinstance(target, Slot):
                self._suspicion.asked(target, listened)
        out += self._exchange.pass_on(self._graves.values(), now)
        self._graves.clear()
        return out

    def _next_round(self, now: float, rng: Random) -> float:
        """When the round after the one at ``now`` is due."""
        pause = self._config.interval_s * rng.uniform(1 - JITTER, 1 + JITTER)
        if self._own.state is MemberState.LEFT:
            return now + pause / FAREWELL_ROUNDS
        # Who has no time makes less work, and does not make up for what was late.
        pause *= min(self.lateness.stretch, SLOWEST)
        return max(self._round_due, now - self._config.interval_s / 2) + pause

    def _gather_news(self) -> None:
        """See what happened that others are to hear of at once."""
        for node, before in self._view.take_news().items():
            self._exchange.note(node)
            self._herald.changed(node, before)
        self._suspicion.hand_over(self._herald)

    def _tell_news(self, now: float, rng: Random) -> list[Outgoing]:
        news, accused = self._herald.take(now)
        if self._round <= YOUNG_ROUNDS and self.node in news:
            self._own.heartbeat += 1  # so that who has just heard of it sees that it lives
        listened = self.lateness.listened(now)
        return [
            self._exchange.push(slot.addr, news, accused, now, listened)
            for slot in self._partners.sample(self._suspicion.asking, rng)
            if slot.addr is not None
        ]

    def greet(self, addr: str, now: float, rng: Random) -> Outgoing:
        """Begin an exchange with ``addr`` out of turn. Whoever is there answers, and is met."""
        return self._exchange.syn(addr, True, now, self.lateness.listened(now), rng)

    def on_datagram(self, source: str, datagram: bytes, now: float, rng: Random) -> list[Outgoing]:
        """Take in a datagram from the address ``source``; return the answer, if it gets one.

        Nothing that can arrive raises; what is refused is counted by its reason.
        """
        if self.error is not None:
            return []
        self._received["datagrams"] += 1
        self._received["bytes"] += len(datagram)
        try:
            sender, payload = self._sealer.open(datagram, source, now)
            message = decode(payload)
            self._check_sender(message, sender)
        except ProtocolError as error:
            self._view.drops[error.reason] += 1
            return []
        self._proof.on_received(source, len(datagram))
        return self._take_in(source, sender, message, now, rng)

    def _take_in(
        self, source: str, sender: NodeId, message: Message, now: float, rng: Random
    ) -> list[Outgoing]:
        view, listened = self._view, self.lateness.listened(now)
        view.expire(now)
        if message.echo:
            self._proof.prove(source, message.echo, now)
        if self._own.state is MemberState.JOINING:
            view.become(self._own, MemberState.ALIVE, listened)
            self._herald.lives(self.node)
        answer = self._exchange.answer(source, message)
        for hint in message.hints:
            self._take_hint(hint, answer, listened, rng)
        for grave in message.graves:
            self._take_grave(grave, now, rng)
        for digest in message.digests:
            answer.weigh(digest, self._hear(digest, sender, now, rng))
            if self.error is not None:
                return []
        for delta in message.deltas:
            incomplete = view.take(delta, now, listened)
            if incomplete is not None:
                answer.miss(incomplete)
            if self._own.never_made(delta):
                self._renew(rng)
        self._compare(sender, message, answer, listened, rng)
        if message.kind is Kind.PUSH and self._suspicion.asking.extra_intervals == 0:
            self._note_known(message)
        out = answer.finish(now, listened, rng)
        self._gather_news()
        return out

    def _take_grave(self, grave: Grave, now: float, rng: Random) -> None:
        """Somebody has forgotten a life, and believes in none that is not later."""
        if grave.node == self.node:
            mine = grave.incarnation >= self.incarnation
            if mine and self._is_believable(grave.incarnation, now):
                self._renew(rng, grave.incarnation)
        elif grave.node in self._view.slots:
            self._graves[grave.node] = grave

    def _hear(self, digest: Digest, sender: NodeId, now: float, rng: Random) -> Slot | Grave | None:
        """Take notice of a life; see :meth:`View.meet`."""
        if digest.node == self.node:
            self._hear_of_self(digest, sender, now, rng)
            return self._own
        listened = self.lateness.listened(now)
        heard = self._view.meet(digest, now, listened, rng)
        if isinstance(heard, Slot):
            direct = digest.node == sender
            self._suspicion.heard(heard, digest.incarnation, digest.heartbeat, direct, listened)
        return heard

    def _compare(
        self, sender: NodeId, message: Message, answer: Answer, listened: float, rng: Random
    ) -> None:
        """Take in heartbeats, if they are those of the view that is here, too."""
        if message.beats is None:
            # Digests of others instead of heartbeats: the views differ.
            if message.kind is Kind.SYN_ACK and len(message.digests) > 1:
                self._differ += 1
            return
        beats = self._view.roll.hear(message.beats)
        answer.compare(message.beats, beats is not None, sender)
        self._differ = 0 if beats is not None else self._differ + 1
        if beats is None:
            return
        for slot, heartbeat in beats:
            if slot is not self._own:
                direct = slot.node == sender and not message.digests
                self._suspicion.heard(slot, slot.incarnation, heartbeat, direct, listened)
            elif heartbeat > slot.heartbeat:
                self._renew(rng)

    def _note_known(self, message: Message) -> None:
        """What is told on by others need not be told so often."""
        for node in message.told - self._view.hot.keys():
            self._herald.heard(node)

    def _take_hint(self, hint: Hint, answer: Answer, listened: float, rng: Random) -> None:
        """Somebody says that a node does not answer."""
        if hint.node != self.node:
            slot = self._view.slots.get(hint.node)
            if slot is None or slot.incarnation != hint.incarnation:
                return
            if self._suspicion.spoke_lately(slot, listened):
                answer.weigh(slot.digest._replace(heartbeat=hint.heartbeat), slot)
            else:
                self._suspicion.hinted(slot, hint, listened)
        elif hint.incarnation == self.incarnation:
            if hint.heartbeat > self._own.heartbeat:
                self._renew(rng)  # never said so
            elif hint.heartbeat == self._own.heartbeat:
                self._received["refutations"] += 1
                self._own.heartbeat += 1
                self._herald.lives(self.node)

    # -- who this is ------------------------------------------------------------------------------

    def _check_sender(self, message: Message, sender: NodeId) -> None:
        """Refuse what somebody says in another's name, and what this node said itself."""
        if not message.digests:
            if sender == self.node:
                raise ProtocolError("echo", "this node's own view")
            return
        first = message.digests[0]
        if first.node != sender:
            raise ProtocolError("sender", f"{sender} speaks as {first.node}")
        mine = first.node == self.node and first.incarnation == self.incarnation
        if mine and not self._own.never_said(first):
            raise ProtocolError("echo", "this node's own words")

    def _hear_of_self(self, digest: Digest, teller: NodeId, now: float, rng: Random) -> None:
        own = self._own
        if digest.incarnation < own.incarnation:
            return
        if digest.incarnation == own.incarnation:
            if self._own.never_said(digest):
                self._renew(rng)
            elif digest.priority_max == own.priority.max_version:
                self._hear_farewell(teller)
            return
        if not self._is_believable(digest.incarnation, now):
            return
        verdict = self._identity.hear(digest.incarnation, digest.heartbeat, self._round)
        if verdict is Verdict.RENEW:
            self._renew(rng, digest.incarnation)
        elif verdict is Verdict.YIELD:
            self.error = NodeIdTakenError(
                f"another live node has the id {self.node!r} and started later: its incarnation "
                f"is {digest.incarnation}, this one's {own.incarnation}, so this one stops. Give "
                f"each node an id of its own, or stop the other one first"
            )

    def _hear_farewell(self, teller: NodeId) -> None:
        """``teller`` knows all of this node's priority lane, and so its goodbye if there is one."""
        # A holder of the key may take any number of names.
        if self._own.state is MemberState.LEFT and len(self._told) < self._config.nodes_max:
            self._told.add(teller)

    def _is_believable(self, claimed: Incarnation, now: float) -> bool:
        """Whether this node may have to outbid ``claimed``; else that is counted."""
        if self._view.believable(claimed, self.incarnation, now):
            return True
        self._view.drops["incarnation"] += 1
        return False

    def _renew(self, rng: Random, claimed: int = 0) -> None:
        """Take an incarnation above all that are claimed.

        By a random step: the one right above may have been taken by an earlier life, too.
        """
        highest = max(claimed, self._identity.claimed, self.incarnation)
        self._view.renew(Incarnation(highest + rng.randint(1, RENEWAL_STEP_MAX)))
        self._received["renewals"] += 1
