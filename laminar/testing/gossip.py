"""Gossip in simulated time: many nodes, one event loop, the production code.

::

    world = GossipWorld(seed=1)
    a = world.start("a")
    b = world.start("b", seeds=[a.addr])
    world.run(10.0)
    a.core.members()
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from random import Random

from laminar.cluster.amplification import SECRET_BYTES, AddressProof
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.exchange import Outgoing
from laminar.cluster.gossip.identity import start_incarnation
from laminar.cluster.seal import LIFE_BYTES, DatagramSealer, Sealer
from laminar.config import DatagramConfig, GossipConfig
from laminar.model import NodeId, node_id
from laminar.testing.datagrams import DatagramFaults, DatagramWeather

EPOCH_NS = 1_700_000_000 * 10**9
"""The time of day when a world begins."""

TICK_S_MIN = 0.0001
"""Least time between what makes a tick due and the tick."""

BACKLOG = 256
"""Datagrams that wait for a node that is paused; more are lost, as in a kernel's buffer."""


class GossipNode:
    """One life of a node in a world."""

    def __init__(self, world: GossipWorld, core: GossipCore, addr: str, clock_s: float) -> None:
        self.core = core
        self.addr = addr
        self.paused_until = 0.0
        self.backlog: list[tuple[str, bytes]] = []
        self.late = False
        """Whether a tick was due while it was paused."""
        self.wakes_at = float("inf")
        """When its next tick is planned."""
        self._world = world
        self._clock_s = clock_s

    @property
    def node(self) -> NodeId:
        """Its name."""
        return self.core.node

    @property
    def now(self) -> float:
        """The time on its own clock, which has nothing to do with that of others."""
        return self._world.now + self._clock_s

    @property
    def due(self) -> float:
        """When the core wants to tick, in the time of the world."""
        return self.core.due - self._clock_s

    @property
    def running(self) -> bool:
        """Whether this life goes on."""
        return self._world.nodes.get(self.addr) is self and self.core.error is None

    def write(self, key: str, value: str, ttl_s: float | None = None) -> None:
        """Set a key in its slot."""
        self.core.write(key, value, self.now, ttl_s)
        self._world.plan(self)

    def delete(self, key: str) -> None:
        """Delete a key of its slot."""
        self.core.delete(key, self.now)
        self._world.plan(self)

    def leave(self) -> None:
        """Say goodbye."""
        self.core.leave(self.now)
        self._world.plan(self)

    def pause(self, seconds: float) -> None:
        """Stand still: no ticks, and what arrives waits."""
        self.paused_until = self._world.now + seconds


class GossipWorld:
    """Nodes, their network and the time they live in; the same for the same seed."""

    def __init__(
        self,
        seed: int,
        config: GossipConfig | None = None,
        faults: DatagramFaults | None = None,
        datagrams: DatagramConfig | None = None,
    ) -> None:
        self.now = 0.0
        self.rng = Random(seed)
        self.config = config or GossipConfig()
        self.weather = DatagramWeather(self.rng, faults)
        self.nodes: dict[str, GossipNode] = {}
        """Those that run, by address."""
        self.struck: Counter[str] = Counter()
        """Faults of nodes that really struck: ``pause``, ``crash``."""
        self.after: Callable[[GossipNode], None] = lambda node: None
        """Called after each step of a node, to see its events."""
        self.datagrams = datagrams or DatagramConfig()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._ports = count(1)

    def start(
        self,
        node: str,
        *,
        seeds: Sequence[str] = (),
        addr: str | None = None,
        wall_offset_s: float = 0.0,
    ) -> GossipNode:
        """Start a node, or another life of one; ``wall_offset_s`` is how wrong its clock is."""
        name = node_id(node)
        addr = addr or f"10.0.0.1:{next(self._ports)}"
        clock_s = self.rng.uniform(0, 1000)
        wall_ns = EPOCH_NS + round((self.now + wall_offset_s) * 1e9)
        core = GossipCore(
            name,
            addr,
            start_incarnation(wall_ns),
            self.sealer(name),
            AddressProof(self.rng.randbytes(SECRET_BYTES), self.datagrams),
            self.config,
            wall_ns=wall_ns,
            now=self.now + clock_s,
        )
        core.set_seeds(tuple(seeds))
        started = self.nodes[addr] = GossipNode(self, core, addr, clock_s)
        self.after(started)
        started.wakes_at = self.now + self.rng.random() * self.config.interval_s
        self.at(started.wakes_at, lambda: self._tick(started))
        return started

    def sealer(self, node: NodeId) -> Sealer:
        """What a life of ``node`` makes its datagrams with: no key, but a checksum."""
        life = self.rng.randbytes(LIFE_BYTES)
        return DatagramSealer("simulated", node, life, None, self.datagrams)

    def crash(self, node: GossipNode) -> None:
        """End a life without a word."""
        del self.nodes[node.addr]
        self.struck["crash"] += 1

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Have something done at that time."""
        heapq.heappush(self._queue, (when, next(self._order), action))

    def plan(self, node: GossipNode) -> None:
        """Let a node tick when it wants to. What is due takes a moment, as it does elsewhere."""
        due = max(node.due, self.now + TICK_S_MIN)
        if due < node.wakes_at:
            node.wakes_at = due
            self.at(due, lambda: self._tick(node))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def inject(self, source: str, target: str, datagram: bytes) -> None:
        """Send a datagram, whoever made it."""
        for when, arrived in self.weather.carry(source, target, datagram, self.now):
            self.at(when, lambda data=arrived: self._arrive(source, target, data))  # type: ignore[misc]

    def _send(self, node: GossipNode, outgoing: list[Outgoing]) -> None:
        for addr, datagram in outgoing:
            self.inject(node.addr, addr, datagram)
        self.after(node)
        self.plan(node)

    def _tick(self, node: GossipNode) -> None:
        if not node.running or self.now < node.wakes_at:
            return
        node.wakes_at = float("inf")
        if node.paused_until > self.now:
            self.struck["pause"] += 1
            node.late = True
            self.at(node.paused_until, lambda: self.wake(node))
            return
        self._send(node, node.core.on_tick(node.now, self.rng))

    def wake(self, node: GossipNode) -> None:
        """End a pause: what waited arrives, and the tick that was due is made up for."""
        if not node.running:
            return
        node.paused_until = min(node.paused_until, self.now)
        backlog, node.backlog = node.backlog, []
        for source, datagram in backlog:
            self._arrive(source, node.addr, datagram)
        if node.late:
            node.late = False
            node.wakes_at = self.now
            self._tick(node)

    def _arrive(self, source: str, target: str, datagram: bytes) -> None:
        node = self.nodes.get(target)
        if node is None or not node.running:
            return
        if node.paused_until > self.now:
            if len(node.backlog) < BACKLOG:
                node.backlog.append((source, datagram))
            return
        self._send(node, node.core.on_datagram(source, datagram, node.now, self.rng))
