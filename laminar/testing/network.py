"""A network that exists only in memory, for the stream seam in :mod:`laminar.net.stream`.

::

    network = SimulatedNetwork(random.Random(1), Faults(reset=0.2, jitter_s=0.05))
    async with ShuffleReceiver.bind("b", network=network.host("b")) as receiver:
        async with ShuffleSender("a", network=network.host("a")) as sender: ...

All chance comes from the one generator it is given, and all time from the event loop's clock.
It starts no task: on any loop it works in real time, and under
:func:`~laminar.testing.simulation.simulate` in virtual time, the same way for the same seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from math import inf

import anyio

from laminar.errors import StreamBrokenError
from laminar.net.address import parse_addr
from laminar.testing.connection import SimulatedListener, SimulatedStream
from laminar.testing.faults import NO_FAULTS, Fault, FaultCounts, Faults
from laminar.testing.host import SimulatedHost
from laminar.testing.pipe import Path, Pipe
from laminar.testing.trace import Trace, TraceValue

FIRST_PORT = 40000
"""The port that is chosen first where the caller leaves it to the network."""


class SimulatedNetwork:
    """Hosts, the paths between them, and what goes wrong on the way.

    :attr:`faults` may be replaced at any time; it holds for connections made from then on.
    """

    def __init__(
        self, rng: random.Random, faults: Faults = NO_FAULTS, *, trace: Trace | None = None
    ) -> None:
        self.rng = rng
        self.faults = faults
        self.fired: FaultCounts = Counter()
        """How often each fault bit."""
        self._trace = trace
        self._watchers: list[Callable[[], None]] = []
        self._hosts: dict[str, SimulatedHost] = {}
        self._paths: dict[tuple[str, str], Path] = {}
        self._listeners: dict[str, SimulatedListener] = {}
        self._streams: dict[SimulatedStream, None] = {}  # in order, unlike a set
        self._healed: anyio.Event | None = None
        self._connections = 0
        self._port = FIRST_PORT

    def host(self, name: str) -> SimulatedHost:
        """The host of that name, with which others reach it; made when it is new."""
        if name not in self._hosts:
            parse_addr(f"{name}:0")
            self._hosts[name] = SimulatedHost(self, name)
        return self._hosts[name]

    # -- making trouble ------------------------------------------------------------------

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Nothing gets from ``source`` to ``target`` until :meth:`heal`; nor back, by default.

        Connections stay, and go on where they were: like TCP, which sends again.
        """
        self.trace("cut", source, target, one_way)
        path = self.path(source, target)
        path.cut, path.bit = ("one_way_partition" if one_way else "partition"), False
        if not one_way:
            back = self.path(target, source)
            back.cut, back.bit = "partition", False

    def refuse(self, source: str, target: str) -> None:
        """Turn away every dial from ``source`` to ``target`` until :meth:`heal`."""
        self.trace("refuse", source, target)
        self.path(source, target).refuses = True

    def heal(self, source: str, target: str) -> None:
        """Repair the path in both directions."""
        self.trace("heal", source, target)
        for path in (self.path(source, target), self.path(target, source)):
            path.cut, path.refuses = None, False
        self.wake_all()

    def reset_connections(self, source: str, target: str) -> None:
        """Break every connection between two hosts."""
        for stream in list(self._streams):
            if stream.host.name == source and stream.peer.host.name == target:
                self.note("reset")
                stream.reset()

    def calm(self) -> None:
        """From now on nothing goes wrong any more: paths are whole, hosts awake, dials answered.

        What is gone is gone: a connection that swallows bytes goes on doing so.
        """
        self.faults = NO_FAULTS
        for source, target in list(self._paths):
            self.heal(source, target)
        for host in self._hosts.values():
            host.resume()
        for stream in list(self._streams):
            stream.reset_after = inf
            stream.outgoing.calm()

    # -- for hosts and streams -----------------------------------------------------------

    def note(self, fault: Fault) -> None:
        """``fault`` has bitten."""
        self.fired[fault] += 1

    def trace(self, *what: TraceValue) -> None:
        """Something happened: record it, and call the watchers."""
        if self._trace is not None:
            self._trace.record(*what)
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` at every event of the network, to look at what must always hold."""
        self._watchers.append(watcher)

    def path(self, source: str, target: str) -> Path:
        """The way from ``source`` to ``target``."""
        key = (source, target)
        if key not in self._paths:
            self._paths[key] = Path()
        return self._paths[key]

    async def dial(self, near: SimulatedHost, addr: str) -> SimulatedStream:
        """Connect ``near`` to whoever listens at ``addr``."""
        target, port = parse_addr(addr)
        self.trace("dial", near.name, addr)
        await self._travel(near, target)
        faults = self.faults
        chance = self.rng.random()
        if chance < faults.unanswered:
            self.note("unanswered")
            self.trace("unanswered", near.name, addr)
            await anyio.sleep_forever()
        listener = self._listeners.get(f"{target}:{port}")
        refused = chance < faults.unanswered + faults.refused
        if listener is None or refused or self.path(near.name, target).refuses:
            if listener is not None:
                self.note("refused")
            self.trace("refused", near.name, addr)
            raise StreamBrokenError(f"cannot connect to {addr}: connection refused")
        return self._join(near, self.host(target), listener)

    async def _travel(self, near: SimulatedHost, target: str) -> None:
        """There and back, as soon as both ways are open."""
        ways = self.path(near.name, target), self.path(target, near.name)
        while True:
            await anyio.sleep(2 * self.faults.delay_s + self.rng.random() * self.faults.jitter_s)
            # Both are asked, so that both are counted.
            held_up = [way.holds_up(self.note) for way in ways]
            if not any(held_up) and not near.standing_still(busy=True):
                return
            await self._wait_for_repairs()

    async def _wait_for_repairs(self) -> None:
        if self._healed is None:
            self._healed = anyio.Event()
        await self._healed.wait()

    def _join(
        self, near: SimulatedHost, far: SimulatedHost, listener: SimulatedListener
    ) -> SimulatedStream:
        self._connections += 1
        number = self._connections
        there = Pipe(self.path(near.name, far.name), self.faults, self.rng, self.note)
        back = Pipe(self.path(far.name, near.name), self.faults, self.rng, self.note)
        dialled = SimulatedStream(f"{number}{near.name}", near, there, back)
        accepted = SimulatedStream(f"{number}{far.name}", far, back, there)
        dialled.peer, accepted.peer = accepted, dialled
        self._doom(dialled)
        self._streams[dialled] = self._streams[accepted] = None
        self.trace("connect", number, near.name, far.name)
        listener.offer(accepted)
        return dialled

    def _doom(self, stream: SimulatedStream) -> None:
        """Decide what is to become of a new connection."""
        faults, rng = self.faults, self.rng
        pipes = (stream.outgoing, stream.incoming)
        if rng.random() < faults.reset:
            after = rng.randint(1, max(1, faults.reset_bytes_max))
            stream.reset_after = stream.peer.reset_after = after
        elif rng.random() < faults.half_open:
            rng.choice(pipes).dead_after = rng.randint(1, max(1, faults.half_open_bytes_max))
        if rng.random() < faults.byte_by_byte:
            for pipe in pipes:
                pipe.single = faults.byte_by_byte_bytes
        if rng.random() < faults.slow_reader:
            rng.choice(pipes).bytes_per_s = faults.slow_bytes_per_s

    def bind(self, host: SimulatedHost, port: int) -> SimulatedListener:
        """Listen at a port of ``host``."""
        if port == 0:
            port, self._port = self._port, self._port + 1
        addr = f"{host.name}:{port}"
        if addr in self._listeners:
            raise StreamBrokenError(f"cannot listen at {addr}: address already in use")
        listener = self._listeners[addr] = SimulatedListener(host, addr)
        return listener

    def unbind(self, addr: str) -> None:
        """The listener at ``addr`` is closed."""
        self._listeners.pop(addr, None)

    def forget(self, stream: SimulatedStream) -> None:
        """An end of a connection is closed."""
        self._streams.pop(stream, None)

    def streams_of(self, host: SimulatedHost) -> list[SimulatedStream]:
        """The open ends of connections on ``host``."""
        return [stream for stream in self._streams if stream.host is host]

    def listeners_of(self, host: SimulatedHost) -> list[SimulatedListener]:
        """The open listeners of ``host``."""
        prefix = f"{host.name}:"
        return [found for addr, found in self._listeners.items() if addr.startswith(prefix)]

    def wake_all(self) -> None:
        """Whoever waits for the network looks again."""
        if self._healed is not None:
            self._healed.set()
            self._healed = None
        for stream in list(self._streams):
            stream.wake()
        for listener in self._listeners.values():
            listener.wake()
