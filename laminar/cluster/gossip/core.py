"""The gossip of one node, without any I/O: datagrams and ticks in, datagrams and events out.

Each round a node begins an exchange with a few others, and each exchange makes both know what
either knew, as far as it was talked about: SYN tells how far some of my copies are, SYN-ACK
brings what I lack and tells what you lack, ACK brings that. (Push-pull anti-entropy: A. Demers
et al., *Epidemic Algorithms for Replicated Database Maintenance*, 1987.)

A digest of all nodes need not fit a datagram. One half of it is for those of whom there is news,
the rest for all in turn, so news travels in a number of rounds that grows with the logarithm of
the cluster, and what was missed comes round in the end.
"""

from __future__ import annotations

from collections import Counter
from math import ceil, log
from random import Random

from laminar.cluster.amplification import AddressProof
from laminar.cluster.gossip.codec import (
    BASE_BYTES,
    DIGEST_BYTES_MAX,
    NODE_BYTES_MAX,
    decode,
)
from laminar.cluster.gossip.exchange import Exchange, Outgoing
from laminar.cluster.gossip.identity import Identity, Verdict
from laminar.cluster.gossip.liveness import Lateness, Liveness
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.messages import Digest, Message
from laminar.cluster.gossip.slot import ADDR_KEY, LEFT_KEY, RESERVED_PREFIX, Slot
from laminar.cluster.gossip.statistics import GossipStatistics
from laminar.cluster.gossip.suspicion import Suspicion
from laminar.cluster.gossip.view import Event, View
from laminar.cluster.kv import KEY_LENGTH_MAX, check_key, check_value
from laminar.cluster.seal import Sealer
from laminar.config import GossipConfig
from laminar.errors import ConfigError, NodeIdTakenError, ProtocolError
from laminar.model import Incarnation, NodeId

DIGEST_BYTES_TYPICAL = 32
"""To guess how long it takes to talk about everybody."""

RENEWAL_STEP_MAX = 2**30
"""As incarnations are nanoseconds, about a second."""


class GossipCore:
    """One node's part in the gossip.

    ``now`` is seconds of any clock that does not go back, the same for all calls; ``rng`` is
    all the chance there is. Call :meth:`on_tick` once per interval and :meth:`on_datagram` for
    whatever arrives; send what they return; take :meth:`take_events` after either.
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
        self._proof = proof
        self._exchange = Exchange(config, self._view, proof, sealer)
        self._sealer = sealer
        self._config = config
        self._round = 0
        self._told: set[NodeId] = set()
        self._seeds: tuple[str, ...] = ()
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
        check_value(check_key(key), value)
        self._check_reserved(key)
        if ttl_s is not None and not 0 < ttl_s < 2**32:
            raise ConfigError(f"a time to live is greater than 0 s, got {ttl_s!r} for {key!r}")
        size = len(key.encode()) + len(value.encode())
        if size > self.entry_bytes_max or len(key.encode()) > KEY_LENGTH_MAX:
            raise ConfigError(
                f"the KV key {key[:64]!r} and its value have {size} bytes; what is gossiped must "
                f"fit one datagram: at most {self.entry_bytes_max} bytes together, and "
                f"{KEY_LENGTH_MAX} for the key. Publish where to get it instead"
            )
        old = self._view.lane_of(key).entry(key)
        config = self._config
        if old is None and self._own.keys >= config.keys_max:
            raise ConfigError(
                f"there is no room for the KV key {key!r}: this node has {self._own.keys} of at "
                f"most {config.keys_max} keys (keys_max), those deleted lately included"
            )
        replaced = 0 if old is None else len(key.encode()) + len((old.value or "").encode())
        if self._own.size_bytes - replaced + size > config.slot_bytes_max:
            raise ConfigError(
                f"there is no room for the KV key {key!r}: this node's keys have "
                f"{self._own.size_bytes} of at most {config.slot_bytes_max} bytes (slot_bytes_max)"
            )
        self._view.expire(now)
        self._view.write(key, value, now, ttl_s)

    def delete(self, key: str, now: float) -> None:
        """Remove ``key`` from the own slot; one that is not there is no error."""
        self._check_reserved(key)
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
        """All nodes that are known, the own one included."""
        return {node: slot.member for node, slot in self._view.slots.items()}

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
        states = Counter(slot.state for slot in self._view.slots.values())
        return GossipStatistics(
            rounds=self._round,
            members={state: states[state] for state in MemberState},
            datagrams_sent=exchange.datagrams_sent,
            bytes_sent=exchange.bytes_sent,
            datagrams_received=self._received["datagrams"],
            bytes_received=self._received["bytes"],
            suspicions=self._suspicion.suspected,
            deaths=self._suspicion.died,
            renewals=self._received["renewals"],
            lateness_s=self.lateness.latest_s,
            health_score=self.lateness.score,
            drops=dict(self._view.drops),
        )

    # -- what others tell -------------------------------------------------------------------------

    def set_seeds(self, addrs: tuple[str, ...]) -> None:
        """Where to begin when nobody is known; also spoken to now and then otherwise."""
        self._seeds = tuple(addr for addr in addrs if addr != self._own.addr)
        if not self._seeds and self._own.state is MemberState.JOINING:
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

    def on_tick(self, now: float, rng: Random) -> list[Outgoing]:
        """Begin a round: look after what grew old, and begin exchanges."""
        if self.error is not None:
            return []
        self.lateness.tick(now)
        self._round += 1
        self._own.heartbeat += 1
        view, nodes = self._view, len(self._view.slots)
        view.expire(now)
        view.collect(now)
        if self._identity.tick(self._round) is Verdict.RENEW:
            self._renew(rng)
        self._suspicion.look(now)
        per_round = self._sealer.payload_bytes_max // DIGEST_BYTES_TYPICAL * self._config.fanout_max
        view.expected_s = self._config.interval_s * (2 + nodes / max(1, per_round))
        spread = 2 + 2 * ceil(log(nodes + 1, self._config.fanout_max + 1))
        listened = self.lateness.listened(now)
        self._exchange.begin_round(self._round, spread)
        return [
            self._exchange.syn(addr, now, listened, rng) for addr in self._targets(listened, rng)
        ]

    def greet(self, addr: str, now: float, rng: Random) -> Outgoing:
        """Begin an exchange with ``addr`` out of turn. Whoever is there answers, and is met."""
        return self._exchange.syn(addr, now, self.lateness.listened(now), rng)

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
            if message.digests[0].node != sender:
                raise ProtocolError("sender", f"{sender} speaks as {message.digests[0].node}")
            self._check_echo(message)
        except ProtocolError as error:
            self._view.drops[error.reason] += 1
            return []
        self._proof.on_received(source, len(datagram))
        return self._take_in(source, message, now, rng)

    def _take_in(self, source: str, message: Message, now: float, rng: Random) -> list[Outgoing]:
        view, listened = self._view, self.lateness.listened(now)
        view.expire(now)
        if message.echo:
            self._proof.prove(source, message.echo, now)
        if self._own.state is MemberState.JOINING:
            view.become(self._own, MemberState.ALIVE, listened)
        answer = self._exchange.answer(source, message)
        for grave in message.graves:
            mine = grave.node == self.node and grave.incarnation >= self.incarnation
            if mine and self._is_believable(grave.incarnation, now):
                self._renew(rng, grave.incarnation)
        for index, digest in enumerate(message.digests):
            if digest.node == self.node:
                self._hear_of_self(digest, message.digests[0].node, now, rng)
                if self.error is not None:
                    return []
                answer.weigh(digest, self._own)
            else:
                answer.weigh(digest, view.hear(digest, index == 0, now, listened, rng))
        for delta in message.deltas:
            view.take(delta, now, listened)
        return answer.finish(now, listened, rng)

    # -- who this is ------------------------------------------------------------------------------

    def _check_echo(self, message: Message) -> None:
        """Refuse what this node said itself."""
        first = message.digests[0]
        mine = first.node == self.node and first.incarnation == self.incarnation
        if mine and not self._is_foreign(first):
            raise ProtocolError("echo", "this node's own words")

    def _is_foreign(self, digest: Digest) -> bool:
        """Whether what is said of this life of this node was never said by it."""
        own = self._own.digest
        return digest.incarnation == own.incarnation and (
            digest.heartbeat > own.heartbeat
            or digest.priority_max > own.priority_max
            or digest.bulk_max > own.bulk_max
        )

    def _hear_of_self(self, digest: Digest, teller: NodeId, now: float, rng: Random) -> None:
        own = self._own
        if digest.incarnation < own.incarnation:
            return
        if digest.incarnation == own.incarnation:
            if self._is_foreign(digest):
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

    # -- whom to talk to --------------------------------------------------------------------------

    def _targets(self, listened: float, rng: Random) -> list[str]:
        """Some live nodes, suspects, perhaps a dead one, perhaps a seed."""
        view, fanout = self._view, self._config.fanout_max
        live: list[Slot] = []
        suspects: list[Slot] = []
        dead: list[Slot] = []
        for slot in view.others():
            if slot.state is MemberState.DEAD:
                dead.append(slot)
            elif slot.state is not MemberState.LEFT:
                live.append(slot)
                if slot.state is MemberState.SUSPECT:
                    suspects.append(slot)
        chosen = rng.sample(live, min(fanout, len(live)))
        # A suspect that hears from many has the best chance to show itself.
        chosen += rng.sample(suspects, min(fanout, len(suspects)))
        if dead and rng.random() < len(dead) / (len(live) + 1):
            chosen.append(rng.choice(dead))
        addrs = [slot.addr for slot in chosen]
        if self._seeds and rng.random() * (len(live) + len(dead)) <= len(self._seeds):
            addrs.append(rng.choice(self._seeds))
        return list(dict.fromkeys(addr for addr in addrs if addr and addr != self._own.addr))

    def _check_reserved(self, key: str) -> None:
        if key.startswith(RESERVED_PREFIX):
            raise ConfigError(f"KV keys that begin with {RESERVED_PREFIX!r} are reserved: {key!r}")
