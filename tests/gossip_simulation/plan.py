"""A cluster's bad days, drawn from a seed: all goes wrong, then nothing; then all is well."""

from random import Random

from laminar.config import DatagramConfig, GossipConfig
from laminar.testing.datagrams import FAULTS, DatagramFaults
from laminar.testing.gossip import GossipWorld
from tests.gossip_simulation.ledger import Ledger

CONFIG = GossipConfig(
    interval_s=1.0,
    fanout_max=2,
    tombstone_s=8.0,
    tombstones_max=6,
    forget_s=20.0,
)
DATAGRAMS = DatagramConfig(datagram_bytes_max=840)
"""So small that a slot does not fit one."""

CHAOS_S = 50
SETTLE_S = 25
"""After that many rounds without faults all views are equal."""
DOUBLE_S = 40
"""After that many more rounds only one is left of two nodes with one id."""
FORGET_S = 60
"""After that many more nobody remembers those who are gone."""

STALE_S = 15
"""For so long what is still said of a node that is gone may pass for its life."""

NAMES = ("n0", "n1", "n2", "n3", "n4")
KEYS = ("shuffle:addr", "k0", "k1", "k2", "k3")
MORTAL = "mortal"
SEEDS = ("10.0.0.1:1", "10.0.0.1:2")
"""Where the first two always are."""


STRIKES = (*FAULTS, "crash", "restart", "old_clock", "pause", "leave", "double", "taken")
"""All that goes wrong: with datagrams, and with nodes."""


class Plan:
    """One run: ``run`` raises ``AssertionError`` at the first thing that is not as it should be."""

    def __init__(self, seed):
        self.rng = rng = Random(seed)
        self.world = GossipWorld(rng.randrange(2**32), CONFIG, self._faults(), DATAGRAMS)
        self.ledger = Ledger(self.world, [MORTAL])
        self.names = NAMES[: rng.randint(3, len(NAMES))]
        self.running = {}
        self.left = set()
        self.restarts = 0
        self.old_clocks = 0
        self.doubles = 0
        self.taken = set()
        """Those that stopped because another live node has their id."""
        self.alive = {}
        """When each was last seen alive."""
        for name in self.names:
            self._start(name)

    def run(self):
        for _ in range(CHAOS_S):
            for _ in range(self.rng.randint(0, 3)):
                self._act()
            self.world.run(1.0)
            self._look_at_doubles()
            self.ledger.check()
        self._heal()
        self._settle()
        self.ledger.check()
        self.ledger.check_equal()
        if len(self.running) < len(self.names):
            self.world.run(FORGET_S)
            self.ledger.check()
            self.ledger.check_equal()
            self.ledger.check_gone()

    @property
    def struck(self):
        """Which of ``STRIKES`` really did, and how often."""
        lives = {
            "restart": self.restarts,
            "old_clock": self.old_clocks,
            "leave": len(self.left),
            "double": self.doubles,
            "taken": len(self.taken),
        }
        return self.world.weather.struck + self.world.struck + type(self.world.struck)(lives)

    # -- what can happen ------------------------------------------------------------------------

    def _act(self):
        actions = (
            [self._write] * 8
            + [self._delete] * 4
            + [self._write_mortal, self._weather, self._pause, self._crash, self._restart]
            + [self._cut, self._cut_one_way, self._join_again, self._leave, self._double]
        )
        self.rng.choice(actions)()

    def _write(self):
        if self.running:
            value = self.rng.choice("xyz") * self.rng.randint(1, 200)
            self._any().write(self.rng.choice(KEYS), value)

    def _delete(self):
        if self.running:
            self._any().delete(self.rng.choice(KEYS))

    def _write_mortal(self):
        if self.running:
            self._any().write(MORTAL, self.rng.choice("xyz"), self.rng.uniform(0.5, 20))

    def _weather(self):
        self.world.weather.faults = self._faults()

    def _pause(self):
        if self.running:
            self._any().pause(self.rng.choice([2, 5, 20, 60]))

    def _crash(self):
        if len(self.running) > 1:
            self._end(self._any())

    def _leave(self):
        if len(self.running) > 2:
            node = self._any()
            node.leave()
            self.left.add(node.core)
            del self.running[node.node]
            self.world.at(self.world.now + 5, lambda: self._end(node))

    def _restart(self):
        gone = [name for name in self.names if name not in self.running]
        if gone:
            self._start(self.rng.choice(gone))
        else:
            node = self._any()
            self._end(node)
            self._start(node.node)

    def _double(self):
        """Another live node with the id of one that goes on, and no better clock."""
        if self.running:
            name = self._any().node
            self._start(name, f"10.0.2.1:{len(self.ledger.lives)}")
            self.doubles += 1

    def _cut(self):
        one, other = self._sides()
        self.world.weather.cut(one, other)
        self.world.weather.cut(other, one)

    def _cut_one_way(self):
        self.world.weather.cut(*self._sides())

    def _join_again(self):
        self.world.weather.heal()

    def _heal(self):
        self.world.weather.heal()
        self.world.weather.faults = DatagramFaults()
        for name in self.names[:2]:
            if name not in self.running or self.running[name].addr not in SEEDS:
                self._start(name)
        for node in list(self.world.nodes.values()):
            self.world.wake(node)

    def _settle(self):
        """Without faults, until all must agree."""
        doubled = any(len(lives) > 1 for lives in self._lives().values())
        for _ in range(SETTLE_S + DOUBLE_S * doubled):
            self.world.run(1.0)
            self._look_at_doubles()
        for name, lives in self._lives().items():
            assert len(lives) == 1, f"there are still {len(lives)} live nodes with the id {name}"

    # -- two with one id ------------------------------------------------------------------------

    def _lives(self):
        """Those that run, by name."""
        lives = {}
        for node in self.world.nodes.values():
            if node.running:
                lives.setdefault(node.node, []).append(node)
        return lives

    def _look_at_doubles(self):
        """Who stops had a double, and that one is the later."""
        alive, now = self._lives(), self.world.now
        for lives in alive.values():
            self.alive.update({node.core: now for node in lives})
        for addr, node in list(self.world.nodes.items()):
            if node.core.error is None:
                continue
            name, core = node.node, node.core
            others = [
                other.incarnation
                for other, when in self.alive.items()
                if other is not core and other.node == name and when > now - STALE_S
            ]
            assert others, f"{name} stopped, and there is no other one"
            assert core.incarnation < max(others), f"{name} at {addr} stopped, and is the later one"
            self.taken.add(core)
            del self.world.nodes[addr]
            if self.running.get(name) is node:
                del self.running[name]
                if name in alive:
                    self.running[name] = alive[name][0]

    # -- with what ------------------------------------------------------------------------------

    def _faults(self):
        rng = self.rng
        return DatagramFaults(
            delay_s=(0.001, rng.choice([0.002, 0.1, 1.5])),
            loss=rng.choice([0.0, 0.1, 0.4]),
            duplication=rng.choice([0.0, 0.3]),
            corruption=rng.choice([0.0, 0.0, 0.2]),
            mtu_bytes=rng.choice([1500, 1500, 500]),
        )

    def _any(self):
        return self.running[self.rng.choice(sorted(self.running))]

    def _sides(self):
        addrs = sorted(self.world.nodes)
        self.rng.shuffle(addrs)
        middle = self.rng.randint(1, max(1, len(addrs) - 1))
        return addrs[:middle], addrs[middle:]

    def _start(self, name, addr=None):
        index = self.names.index(name)
        if addr is None and index < len(SEEDS):
            addr = SEEDS[index]
        if addr in self.world.nodes:
            self._end(self.world.nodes[addr])
        before = max((life[1] for life in self.ledger.lives if life[0] == name), default=0)
        offset = 0.0
        if before:
            self.restarts += name not in self.running
            offset = self.rng.choice([0.0, -3600.0]) + self.rng.random()
        addr = addr or f"10.0.1.{index}:{len(self.ledger.lives)}"
        node = self.world.start(name, seeds=SEEDS, addr=addr, wall_offset_s=offset)
        self.old_clocks += name not in self.running and node.core.incarnation < before
        self.running[name] = node

    def _end(self, node):
        if node.running:
            self.world.crash(node)
        if self.running.get(node.node) is node:
            del self.running[node.node]
