"""A cluster of agents, each a process, that is put through an ordeal in a network of its own."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import psutil

from benchmarks.child import Link
from benchmarks.namespace import loopback_bytes, raise_loopback
from benchmarks.ordeal import Action, Deed
from benchmarks.process import child_environment
from benchmarks.sightings import Account, Saw, Sighting

PORT = 7946
KEY = b"shared by all gossiping of them!"
STAGGER_SECONDS = 0.1
JOIN_SECONDS_MAX = 180.0
STRAGGLER_SECONDS = 30.0
"""How long after the last deed stragglers are waited for."""
LOOK_SECONDS = 0.5
SIGNALS = {
    Deed.KILL: signal.SIGKILL,
    Deed.STOP: signal.SIGSTOP,
    Deed.RESUME: signal.SIGCONT,
}


class System(Protocol):
    """How agents of one kind are started, changed and heard."""

    def command(self, node: str, listen: str, seed: str | None) -> list[str]: ...

    def change(self, node: str, value: str, pid: int, stdin: int) -> None: ...

    def hear(self, line: bytes) -> tuple[str, Saw, str | None] | None: ...


class AgentLost(Exception):
    """An agent ended by itself, or did not see all others."""


class Fleet:
    """Running agents. What they say has the time at which it was read."""

    def __init__(self, system: System, agents: int) -> None:
        self.system = system
        self.count = agents
        self.seen: list[Sighting] = []
        self.done: list[Action] = []
        self._agents: list[subprocess.Popen[bytes]] = []
        self._told: list[int] = []
        """Where each agent reads what it is told."""
        self._selector = selectors.DefaultSelector()
        self._partial: list[bytes] = []
        """What each agent has said of a line that has not ended."""

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> float:
        """Start all, the first one as everybody's seed.

        Returns the seconds from when the last one was up until all saw all.
        """
        for number in range(self.count):
            self._start_one(number)
            self.listen(STAGGER_SECONDS)
            if number == 0:
                self.listen(JOIN_SECONDS_MAX, until=lambda: bool(self.seen))
        self.listen(JOIN_SECONDS_MAX, until=self._all_see_all)
        if not self._all_see_all():
            raise AgentLost(f"not all agents saw all others in {JOIN_SECONDS_MAX:.0f} s")
        # The first that an agent sees is itself.
        up = {sighting.witness: sighting.at for sighting in reversed(self.seen)}
        return max(sighting.at for sighting in self.seen) - max(up.values())

    def _start_one(self, number: int) -> None:
        seed = f"127.0.0.1:{PORT}" if number else None
        (read_end, told), (says, write_end) = os.pipe(), os.pipe()
        try:
            agent = subprocess.Popen(
                self.system.command(f"agent-{number}", f"127.0.0.1:{PORT + number}", seed),
                stdin=read_end,
                stdout=write_end,
                stderr=sys.stderr,
                env=child_environment(),
                # Its own share of the processor, where the kernel gives each session one.
                start_new_session=True,
            )
        finally:
            os.close(read_end)
            os.close(write_end)
        self._agents.append(agent)
        self._told.append(told)
        self._partial.append(b"")
        self._selector.register(says, selectors.EVENT_READ, number)

    def _all_see_all(self) -> bool:
        pairs = {
            (sighting.witness, sighting.agent)
            for sighting in self.seen
            if sighting.saw is Saw.ALIVE and sighting.witness != sighting.agent
        }
        return len(pairs) == self.count * (self.count - 1)

    def end(self) -> None:
        """Kill all."""
        for agent in self._agents:
            agent.kill()
        for agent in self._agents:
            agent.wait()
        self._selector.close()

    # -- what happens ---------------------------------------------------------------------------

    def undergo(self, actions: Sequence[Action]) -> None:
        """Do what is planned, each in its time from now."""
        started = time.monotonic()
        for action in actions:
            self.listen(started + action.at - time.monotonic())
            self.done.append(Action(time.monotonic(), action.deed, action.agent, action.value))
            self._do(action)

    def _do(self, action: Action) -> None:
        agent = self._agents[action.agent]
        if action.deed is Deed.CHANGE:
            told = self._told[action.agent]
            self.system.change(f"agent-{action.agent}", action.value, agent.pid, told)
        else:
            agent.send_signal(SIGNALS[action.deed])

    def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Take what the agents say, for that long or until it is enough."""
        deadline = time.monotonic() + seconds
        look = 0.0
        while (left := deadline - time.monotonic()) > 0:
            if time.monotonic() >= look:
                if until():
                    return
                look = time.monotonic() + LOOK_SECONDS
            for key, _ in self._selector.select(min(left, LOOK_SECONDS)):
                self._read(key.data, key.fd)

    def _read(self, number: int, fd: int) -> None:
        piece = os.read(fd, 65536)
        at = time.monotonic()
        if not piece:
            if all((Deed.KILL, number) != (done.deed, done.agent) for done in self.done):
                raise AgentLost(f"agent-{number} ended by itself")
            self._selector.unregister(fd)
            return
        *lines, self._partial[number] = (self._partial[number] + piece).split(b"\n")
        for line in lines:
            if heard := self.system.hear(line):
                node, saw, value = heard
                agent = int(node.removeprefix("agent-"))
                self.seen.append(Sighting(at, number, agent, saw, value))

    def account(self) -> Account:
        """What was done and seen up to now."""
        return Account(self.count, self.done, self.seen, time.monotonic())

    # -- what it takes --------------------------------------------------------------------------

    def cpu_seconds(self, agents: Sequence[int]) -> float:
        """Of these agents together, so far."""
        times = [psutil.Process(self._agents[number].pid).cpu_times() for number in agents]
        return sum(spent.user + spent.system for spent in times)

    def waited_seconds(self, agents: Sequence[int]) -> float:
        """How long threads of these agents were ready to run, but no processor was free."""
        tasks = [
            task
            for number in agents
            for task in Path(f"/proc/{self._agents[number].pid}/task").glob("*/schedstat")
        ]
        return sum(waited_ns(task.read_text()) for task in tasks) / 1e9

    def resident_bytes(self) -> float:
        """Of the mean agent."""
        sizes = [psutil.Process(agent.pid).memory_info().rss for agent in self._agents]
        return sum(sizes) / len(sizes)


@dataclass(frozen=True, slots=True)
class Meter:
    """What was used up to a moment."""

    at: float
    network_bytes: int
    cpu_seconds: float
    waited_seconds: float

    @classmethod
    def read(cls, fleet: Fleet, agents: Sequence[int]) -> Meter:
        """Of the network, and of these agents."""
        used = fleet.cpu_seconds(agents), fleet.waited_seconds(agents)
        return cls(time.monotonic(), loopback_bytes(), *used)


def run(
    link: Link,
    *,
    system: str,
    folder: str,
    agents: int,
    settle_seconds: float,
    idle_seconds: float,
    busy_seconds: float,
    actions: list[dict[str, Any]],
) -> None:
    """Put a fleet through an ordeal; report what came of it.

    All that was done and seen stays in ``folder``, for who wants to know why.
    """
    plan = [Action(**{**action, "deed": Deed(action["deed"])}) for action in actions]
    afflicted = {action.agent for action in plan if action.deed is not Deed.CHANGE}
    steady = [number for number in range(agents) if number not in afflicted]
    raise_loopback()
    fleet = Fleet(_system(system, Path(folder)), agents)
    try:
        join_seconds = fleet.start()
        fleet.listen(settle_seconds)
        meters = [Meter.read(fleet, steady)]
        fleet.listen(idle_seconds)
        meters.append(Meter.read(fleet, steady))
        resident = fleet.resident_bytes()
        fleet.undergo(plan)
        fleet.listen(meters[-1].at + busy_seconds - time.monotonic())
        meters.append(Meter.read(fleet, steady))
        fleet.listen(STRAGGLER_SECONDS, until=lambda: not fleet.account().missed)
        account = fleet.account()
    finally:
        fleet.end()
    record = {"done": fleet.done, "seen": fleet.seen}
    Path(folder, f"{system}-{agents}.json").write_text(json.dumps(record, default=asdict))
    link.report(
        join_seconds=join_seconds,
        resident_bytes=resident,
        phases=[_phase(agents, len(steady), *pair) for pair in pairwise(meters)],
        detections=account.detections().seconds,
        convergences=account.convergences().seconds,
        rejoins=account.rejoins().seconds,
        catch_ups=account.catch_ups().seconds,
        false_deaths=len(account.false_deaths()),
        missed=account.missed,
    )


def waited_ns(schedstat: str) -> int:
    """The second figure of ``/proc/PID/schedstat``: nanoseconds on a run queue, not running."""
    return int(schedstat.split()[1])


def _phase(agents: int, steady: int, before: Meter, after: Meter) -> dict[str, float]:
    """What a node took in a second; the processor only of those that were left alone."""
    seconds = after.at - before.at
    return {
        "network_bytes": (after.network_bytes - before.network_bytes) / seconds / agents,
        "cpu_seconds": (after.cpu_seconds - before.cpu_seconds) / seconds / steady,
        "waited_seconds": (after.waited_seconds - before.waited_seconds) / seconds / steady,
    }


def _system(name: str, folder: Path) -> System:
    # One contestant must not need what only the other one imports.
    if name == "serf":
        from benchmarks.peers.serf import Serf

        return Serf(folder, KEY)
    from benchmarks.peers.laminar_gossip import Laminar

    return Laminar(folder, KEY)
