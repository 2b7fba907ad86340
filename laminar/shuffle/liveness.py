"""How the peers of a sender or receiver are, and who wants to know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum

from laminar.following import Followers
from laminar.model import NodeId


class PeerState(Enum):
    """How a peer is, as far as one end of the fabric knows."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    """The connection broke; the session waits for another one."""
    LEFT = "left"
    """The peer said goodbye."""
    LOST = "lost"
    """The peer did not come back in time: its session is over."""
    RESTARTED = "restarted"
    """The peer came back without its memory: its session is over."""

    @property
    def dead(self) -> bool:
        """Whether the session is over."""
        return self in (PeerState.LEFT, PeerState.LOST, PeerState.RESTARTED)


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A peer's newest state."""

    peer: NodeId
    state: PeerState
    reason: str
    """Why, in words; empty when there is nothing to say."""
    deaths: int
    """How many of the peer's sessions are over: it tells of those that nobody looked at."""


class PeerBoard:
    """The newest state of each peer. Of the dead ones, only the latest are remembered."""

    def __init__(self, dead_max: int) -> None:
        self._events: dict[NodeId, PeerEvent] = {}
        self._followers: Followers[NodeId, PeerEvent] = Followers()
        self._dead_max = dead_max

    def note(self, peer: NodeId, state: PeerState, reason: str = "") -> None:
        """The state of ``peer`` is now ``state``."""
        before = self._events.pop(peer, None)
        deaths = (before.deaths if before else 0) + state.dead
        self._events[peer] = event = PeerEvent(peer, state, reason, deaths)
        self._followers.changed(peer, event)
        self._forget_oldest()

    def is_connected(self, peer: NodeId) -> bool:
        """Whether the newest state of ``peer`` is ``CONNECTED``."""
        event = self._events.get(peer)
        return event is not None and event.state is PeerState.CONNECTED

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[PeerEvent]]:
        """Follow the states of all peers, beginning with those known now.

        A watcher that lags gets one event for each peer that changed, the newest.
        """
        return self._followers.follow(self._events)

    async def wait_dead(self, peer: NodeId) -> PeerEvent:
        """Wait until a session of ``peer`` is over; at once if that is its newest state.

        Returns the newest event, which may already tell of the peer's next session.
        """
        known = self._events.get(peer)
        seen = known.deaths if known and not known.state.dead else 0
        async with self.watch() as events:
            while True:
                event = await anext(events)
                if event.peer == peer and event.deaths > seen:
                    return event

    def _forget_oldest(self) -> None:
        dead = [peer for peer, event in self._events.items() if event.state.dead]
        for peer in dead[: max(0, len(dead) - self._dead_max)]:
            del self._events[peer]
