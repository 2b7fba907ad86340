"""What happens to a cluster of agents, and when: kills, stops and changed keys. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Deed(StrEnum):
    """What is done to one agent."""

    KILL = "kill"
    """SIGKILL."""
    STOP = "stop"
    """SIGSTOP."""
    RESUME = "resume"
    """SIGCONT."""
    CHANGE = "change"
    """Its key gets a new value."""


@dataclass(frozen=True, slots=True)
class Action:
    """One deed. ``at`` is in seconds from the start, or on a clock once it is done."""

    at: float
    deed: Deed
    agent: int
    value: str = ""
    """The new value, of a :attr:`Deed.CHANGE`."""


@dataclass(frozen=True, slots=True)
class Ordeal:
    """How much happens to how many agents."""

    agents: int
    seconds: float
    kills: int
    short_stops: Sequence[float]
    """Seconds each. Nobody is to be declared dead for one."""
    long_stops: Sequence[float]
    """Seconds each. The agent is to be declared dead, and then alive again."""
    changes: int

    def __post_init__(self) -> None:
        """Raise ``ValueError`` when less than two agents are left alone."""
        if self.kills + len(self.short_stops) + len(self.long_stops) > self.agents - 2:
            raise ValueError(f"{self.agents} agents are too few for this")

    def actions(self, seed: int) -> list[Action]:
        """What is done, in order of time; the same for the same seed.

        No agent is killed or stopped twice, and the keys that change are of the others. Changes
        are spread evenly, so that each has arrived before its owner's next one; kills come in the
        first half, and every stop ends before the whole does.
        """
        rng = random.Random(seed)
        agents = rng.sample(range(self.agents), self.agents)
        deeds = sorted(self._fates(rng, agents), key=lambda action: action.at)
        owners = sorted(agents)
        for number in range(self.changes):
            at = self.seconds * (number + rng.random() / 2) / self.changes
            owner = owners[number % len(owners)]
            deeds.append(Action(at, Deed.CHANGE, owner, f"value-{number}"))
        return sorted(deeds, key=lambda action: action.at)

    def _fates(self, rng: random.Random, agents: list[int]) -> Iterator[Action]:
        """Kills and stops; takes the agents that they are of out of ``agents``."""
        for _ in range(self.kills):
            yield Action(rng.uniform(0.05, 0.5) * self.seconds, Deed.KILL, agents.pop())
        for stop in (*self.short_stops, *self.long_stops):
            start = rng.uniform(0.05, 0.95) * (self.seconds - stop)
            agent = agents.pop()
            yield Action(start, Deed.STOP, agent)
            yield Action(start + stop, Deed.RESUME, agent)
