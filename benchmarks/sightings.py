"""What agents saw of each other, held against what was done to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from benchmarks.ordeal import Action, Deed

UNDISTURBED_SECONDS = 20.0
"""Who is itself killed or stopped this soon after a deed does not count as its witness."""
RECOVERED_SECONDS = 10.0
"""Nor does who went on after a stop less than this long before."""
LONG_STOP_SECONDS = 10.0
"""A stop from this length on is to be noticed."""


class Saw(StrEnum):
    """What one agent says of another."""

    ALIVE = "alive"
    DEAD = "dead"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Sighting:
    """``witness`` says at the time ``at`` what it saw of ``agent``."""

    at: float
    witness: int
    agent: int
    saw: Saw
    value: str | None = None
    """Of a changed key; ``None`` when the witness does not say."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from a deed to a sighting. What nobody saw counts as the time that was waited."""

    seconds: Sequence[float]
    missed: int


class Account:
    """All that was done and seen, on one clock."""

    def __init__(
        self, agents: int, done: Sequence[Action], seen: Iterable[Sighting], ended: float
    ) -> None:
        """``ended`` is the time at which watching ended."""
        self._agents = agents
        self._done = done
        self._ended = ended
        self._seen: dict[tuple[int, int, Saw], list[Sighting]] = {}
        for sighting in sorted(seen, key=lambda sighting: sighting.at):
            key = (sighting.witness, sighting.agent, sighting.saw)
            self._seen.setdefault(key, []).append(sighting)
        self._away: dict[int, tuple[float, float]] = {}
        for action in done:
            if action.deed in (Deed.KILL, Deed.STOP):
                self._away[action.agent] = (action.at, inf)
            elif action.deed is Deed.RESUME:
                self._away[action.agent] = (self._away[action.agent][0], action.at)

    def detections(self) -> Delays:
        """From each SIGKILL until each witness says dead."""
        return self._delays(
            (kill, self._first(kill, witness, Saw.DEAD))
            for kill in self._all(Deed.KILL)
            for witness in self._witnesses(kill)
        )

    def rejoins(self) -> Delays:
        """From the end of each long stop until all witnesses who said dead say alive.

        A stop that nobody noticed is missed.
        """
        return self._delays(
            (
                resume,
                max(
                    (
                        self._first(resume, witness, Saw.ALIVE)
                        for witness in self._witnesses(resume)
                        if self._noticed(witness, resume.agent)
                    ),
                    default=inf,
                ),
            )
            for resume in self._all(Deed.RESUME)
            if self._was_long(resume.agent)
        )

    def convergences(self) -> Delays:
        """From each change of a key until all witnesses have it."""
        return self._delays(
            (
                change,
                max(
                    self._first(change, witness, Saw.CHANGED) for witness in self._witnesses(change)
                ),
            )
            for change in self._all(Deed.CHANGE)
        )

    def catch_ups(self) -> Delays:
        """From the end of each long stop until that agent has every key that changed meanwhile."""
        return self._delays(
            (resume, self._first(latest, resume.agent, Saw.CHANGED, since=resume.at))
            for resume in self._all(Deed.RESUME)
            if self._was_long(resume.agent)
            for latest in self._missed_by(resume.agent)
        )

    def false_deaths(self) -> list[Sighting]:
        """Said of agents that lived: neither killed nor in a long stop at that time."""
        return [
            sighting
            for (_, agent, saw), sightings in self._seen.items()
            if saw is Saw.DEAD
            for sighting in sightings
            if not self._may_seem_dead(agent, sighting.at)
        ]

    @property
    def missed(self) -> int:
        """How much of what was to be seen was not, up to now."""
        return sum(
            delays.missed
            for delays in (
                self.detections(),
                self.rejoins(),
                self.convergences(),
                self.catch_ups(),
            )
        )

    # -- helpers ----------------------------------------------------------------------------------

    def _all(self, deed: Deed) -> list[Action]:
        return [action for action in self._done if action.deed is deed]

    def _delays(self, found: Iterable[tuple[Action, float]]) -> Delays:
        pairs = list(found)
        seconds = [min(at, self._ended) - action.at for action, at in pairs]
        return Delays(seconds, sum(at == inf for _, at in pairs))

    def _first(
        self, action: Action, witness: int, saw: Saw, *, since: float | None = None
    ) -> float:
        """When ``witness`` first said so of the agent, since the action; infinite if never."""
        since = action.at if since is None else since
        for sighting in self._seen.get((witness, action.agent, saw), ()):
            if sighting.at >= since and sighting.value in (None, action.value or None):
                return sighting.at
        return inf

    def _witnesses(self, action: Action) -> Iterator[int]:
        for agent in range(self._agents):
            start, end = self._away.get(agent, (inf, inf))
            disturbed = start - UNDISTURBED_SECONDS <= action.at <= end + RECOVERED_SECONDS
            if agent != action.agent and not disturbed:
                yield agent

    def _missed_by(self, agent: int) -> Iterable[Action]:
        """The last change of each owner while this agent was away."""
        start, end = self._away[agent]
        changes = [change for change in self._all(Deed.CHANGE) if start <= change.at < end]
        return {change.agent: change for change in changes}.values()

    def _noticed(self, witness: int, agent: int) -> bool:
        start, end = self._away[agent]
        sightings = self._seen.get((witness, agent, Saw.DEAD), ())
        return any(start <= sighting.at < end for sighting in sightings)

    def _was_long(self, agent: int) -> bool:
        start, end = self._away.get(agent, (inf, inf))
        return start < inf and end - start >= LONG_STOP_SECONDS

    def _may_seem_dead(self, agent: int, at: float) -> bool:
        start, end = self._away.get(agent, (inf, inf))
        return self._was_long(agent) and start <= at <= end
