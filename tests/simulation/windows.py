"""What must hold of every window at all times, looked at from outside."""

from collections.abc import Callable, Mapping

from laminar.shuffle.exchange import Exchange
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.inbox import _Arrived
from laminar.shuffle.outbound import OutboundSession, State
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender

HARMLESS_DROPS = {"handshake", "timeout", "silent", "round", "incarnation"}
"""Reasons that a bad network alone can bring about."""

METADATA_BYTES_MAX = 1600
"""What a frame of the ledger's schemas has beside its rows, with the schema itself."""


class WindowWatch:
    """Compares the windows of both ends with what is really held."""

    def __init__(
        self,
        senders: Mapping[str, ShuffleSender],
        receivers: Mapping[str, ShuffleReceiver],
        fail: Callable[[str, str], None],
    ) -> None:
        self._senders = senders
        self._receivers = receivers
        self._fail = fail
        self.exchanges: dict[str, Exchange] = {}
        """By node; what they hold back counts too."""
        self._events = 0
        self.sessions: dict[tuple[str, str], set[tuple[int, int]]] = {}
        """By receiver and sender: the lives of both that have met."""

    def look(self) -> None:
        """Look at one node at each event, in turn."""
        self._events += 1
        names = tuple(self._receivers)
        if names:
            self._look_at(names[self._events % len(names)])

    def look_everywhere(self) -> None:
        for name in self._receivers:
            self._look_at(name)

    def _look_at(self, name: str) -> None:
        receiver, sender = self._receivers[name], self._senders.get(name)
        drops = set(receiver._drops) - HARMLESS_DROPS
        if drops:
            self._fail("honest peers", f"{name} cut somebody off for {drops}")
        self._look_at_inboxes(name, receiver)
        for session in receiver._peers.sessions.values():
            lives = (receiver._incarnation, session.incarnation)
            self.sessions.setdefault((name, session.peer), set()).add(lives)
            for channel in session.channels.values():
                window = channel.window
                one = window.received - window.consumed - window.held_control <= 1
                where = f"{session.peer}->{name}/{channel.name}"
                self._check(where, "held", window.held_bytes, window.window_bytes, one)
                self._check(where, "held", window.held_control, window.control_frames, False)
        if sender is not None:
            for link in sender._links.values():
                self._look_at_session(name, link.session)

    def _look_at_session(self, name: str, session: OutboundSession) -> None:
        receiver = self._receivers.get(session.peer)
        inbound = receiver._peers.sessions.get(name) if receiver is not None else None
        met = inbound is not None and session.state is State.OPEN
        if not met or (inbound.incarnation, inbound.round) != (session.incarnation, session.round):
            inbound = None  # they have yet to find out about each other
        for channel in session._by_number.values():
            window = channel.window
            where = f"{name}->{session.peer}/{channel.name}"
            flying = len(window.retained) - len(window.unsent)
            one = flying - window.inflight_control <= 1
            self._check(where, "in flight", window.inflight_bytes, window.window_bytes, one)
            if window.inflight_control < 0 or window.retained_control < window.inflight_control:
                self._fail("credit", f"{where}: {window.inflight_control} controls in flight")
            if window.retained and window.retained[0].sequence != window.consumed + 1:
                self._fail("credit", f"{where}: does not hold what follows {window.consumed}")
            # Some may have been queued before the peer said how little it takes, and a batch is
            # admitted by the size of its rows.
            rows = window.retained_bytes - METADATA_BYTES_MAX * len(window.retained)
            if rows > session._config.window_bytes and len(window.retained) > 1:
                self._fail("memory", f"{where}: {window.retained_bytes} bytes retained")
            if inbound is not None:
                self._compare(where, window.consumed, inbound, channel.name)

    def _compare(self, where: str, released: int, inbound: InboundSession, name: str) -> None:
        channel = inbound.channels.get(name)
        if channel is None:
            return  # all of it was consumed, or it has yet to be opened
        if released > channel.window.consumed:
            self._fail(
                "credit",
                f"{where}: {released} released, but {channel.window.consumed} were consumed",
            )

    def _look_at_inboxes(self, name: str, receiver: ShuffleReceiver) -> None:
        """The frames that wait in the inboxes are those that the windows say are held."""
        waiting: dict[object, list[int]] = {}
        items = [
            item
            for inbox in (receiver._inbox, *receiver._claimed.values())
            for item in inbox._queue
        ]
        if name in self.exchanges:
            for source in self.exchanges[name]._aligner._live.values():
                items += [item for item, _ in source.held]
        for item in items:
            if isinstance(item, _Arrived):
                channel, frame = item
                tally = waiting.setdefault(channel, [0, 0])
                tally[0] += 1
                tally[1] += len(frame.body) if frame.kind == 1 else 0
        for session in receiver._peers.sessions.values():
            for channel in session.channels.values():
                frames, held = waiting.get(channel, (0, 0))
                window = channel.window
                if (window.received - window.consumed, window.held_bytes) != (frames, held):
                    self._fail(
                        "memory",
                        f"{session.peer}->{name}/{channel.name}: {frames} frames of {held} bytes "
                        f"wait, not {window.received - window.consumed} of {window.held_bytes}",
                    )

    def _check(self, where: str, what: str, amount: int, limit: int, alone: bool) -> None:
        if amount < 0:
            self._fail("credit", f"{where}: {amount} bytes {what}")
        if amount > limit and not alone:
            self._fail("memory", f"{where}: {amount} {what}, the limit is {limit}")
