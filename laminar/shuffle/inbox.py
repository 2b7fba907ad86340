"""Where received frames wait for their consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol, Self, TypeAlias

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from laminar.errors import ClosedError, ConfigError, ProtocolError, RemoteError
from laminar.model import NodeId
from laminar.shuffle.frames import Frame, Kind
from laminar.shuffle.inbound import InboundChannel, InboundSession
from laminar.shuffle.local import LocalLane
from laminar.shuffle.messages import ChannelMessage, Close, End, Message, SchemaChanged


class Supply(Protocol):
    """What the receiver does for its inboxes."""

    def consumed(self, session: InboundSession) -> None:
        """The session owes its peer credit now."""

    def broken(self, session: InboundSession, error: ProtocolError, teller: Inbox) -> RemoteError:
        """A frame of the session turned out to be undecodable.

        Ends the session, tells all its consumers but that of ``teller``, and returns what
        that one is to be told.
        """


Envelope: TypeAlias = tuple[NodeId, Message]
"""The peer a message came from, and the message."""


class _Local(NamedTuple):
    """A message of this very process."""

    lane: LocalLane
    message: ChannelMessage | SchemaChanged
    size: int


class _Farewell(NamedTuple):
    """A peer left on purpose, before the end of some channels."""

    channels: frozenset[str]
    peer: NodeId
    close: Close


class _Loss(NamedTuple):
    """A peer is gone before the end of some channels."""

    channels: frozenset[str]
    peer: NodeId
    error: RemoteError


class _Arrived(NamedTuple):
    """A frame that came over the wire, undecoded."""

    channel: InboundChannel
    frame: Frame


Item: TypeAlias = _Arrived | _Local | _Farewell | _Loss
"""What waits. It is not consumed before it is opened."""


class Label(NamedTuple):
    """What is known of an item before it is opened."""

    peer: NodeId
    size: int
    """Bytes that it holds of the window."""
    last: bool
    """Whether nothing follows it in this life of the peer."""


def label(item: Item) -> Label:
    """What is known of ``item`` before it is opened."""
    if isinstance(item, _Arrived):
        frame = item.frame
        return Label(item.channel.session.peer, len(frame.body), last=frame.kind == Kind.END)
    if isinstance(item, _Local):
        return Label(item.lane.node, item.size, last=isinstance(item.message, End))
    return Label(item.peer, 0, last=True)


def opens_again(item: Item, envelope: Envelope) -> bool:
    """Whether there is another message in ``item`` behind the one it was opened to."""
    return type(envelope[1]) is SchemaChanged and isinstance(item, _Arrived)


_new_arrival = tuple.__new__
"""Makes a named tuple at half the price of calling it."""


class Inbox:
    """A queue of messages from all peers, in order per peer and channel.

    Its size is bounded by the windows of the channels that feed it. Messages that arrived
    before a peer was lost or restarted are delivered before the error is raised, once.
    """

    def __init__(self, supply: Supply, closed: str = "") -> None:
        self._supply = supply
        self._queue: deque[Item] = deque()
        self._arrival: anyio.Event | None = None
        self._touched: set[InboundChannel] = set()
        self._last_touched: InboundChannel | None = None
        self.credit_due = False
        """Whether a sender should hear soon how far its consumer is."""
        self._owner = ""
        self._closed = closed
        """Why nothing arrives, if that is so."""
        self.expected: set[NodeId] = set()
        """Peers whose loss matters to the consumer even if they never opened a channel."""

    def reserve(self, owner: str) -> None:
        """Let only ``owner`` consume this.

        Raises :class:`~laminar.errors.ConfigError` when somebody else does already.
        """
        if self._owner:
            raise ConfigError(f"{owner} cannot have the channel of {self._owner}: give it a name")
        self._owner = owner

    # -- the receiver's side -------------------------------------------------------------

    def put(self, channel: InboundChannel, frame: Frame) -> None:
        """Queue a frame, undecoded."""
        self._queue.append(_new_arrival(_Arrived, (channel, frame)))
        if self._arrival is not None:
            self.wake()

    def put_local(
        self, lane: LocalLane, message: ChannelMessage | SchemaChanged, size: int
    ) -> None:
        """Queue a message of this very process, of ``size`` bytes."""
        self._queue.append(_Local(lane, message, size))
        self.wake()

    def put_close(self, channels: Iterable[str], peer: NodeId, close: Close) -> None:
        """Let the consumer of ``channels`` know that ``peer`` left on purpose.

        It hears of it behind what arrived before.
        """
        self._queue.append(_Farewell(frozenset(channels), peer, close))
        self.wake()

    def put_error(self, channels: Iterable[str], peer: NodeId, error: RemoteError) -> None:
        """Let the consumer of ``channels`` know that ``peer`` is gone.

        It hears of it behind what arrived before.
        """
        self._queue.append(_Loss(frozenset(channels), peer, error))
        self.wake()

    def close(self, why: str) -> None:
        """Nothing arrives: waiting consumers get :class:`~laminar.errors.ClosedError`.

        With no reason, ``""``, things do arrive from now on.
        """
        self._closed = why
        self.wake()

    def split_off(self, name: str, other: Inbox) -> None:
        """Move what waits here of channels called ``name`` to ``other``."""
        kept: deque[Item] = deque()
        for item in self._queue:
            if isinstance(item, _Arrived):
                (other._queue if item.channel.name == name else kept).append(item)
            elif isinstance(item, _Local):
                kept.append(item)
            else:
                if name in item.channels:
                    other._queue.append(item)
                if item.channels != {name}:
                    kept.append(item)
        self._queue = kept
        if not kept:
            self._report_all()

    # -- the consumer's side -------------------------------------------------------------

    async def recv(self) -> Envelope:
        """Wait for the next message and the id of the peer it came from.

        Raises :class:`~laminar.errors.PeerLostError` or
        :class:`~laminar.errors.PeerRestartedError` once for a peer that is gone before its
        channels ended, and :class:`~laminar.errors.ClosedError` when the receiver is closed.
        """
        while True:
            while self._queue:
                item = self._queue.popleft()
                envelope = self._open_next(item)
                if self.credit_due:
                    await self.let_credit_out()
                if envelope is not None:
                    return envelope
            await self.wait()

    def drain_available(self) -> list[Envelope]:
        """Everything that is here now, without waiting.

        Raises what :meth:`recv` raises, but only when nothing came before it.
        """
        envelopes: list[Envelope] = []
        while self._queue:
            try:
                item = self._queue.popleft()
                envelope = self._open_next(item)
            except RemoteError as error:
                if not envelopes:
                    raise
                told_next = _Loss(frozenset(), label(item).peer, error)
                self._queue.appendleft(told_next)
                break
            if envelope is not None:
                envelopes.append(envelope)
        return envelopes

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Envelope:
        try:
            return await self.recv()
        except ClosedError:
            raise StopAsyncIteration from None

    # -- the same in steps, for a consumer that looks before it takes -----------------------

    def fetch(self) -> Item | None:
        """The oldest item, which counts as consumed only when it is opened; ``None`` if none.

        Those of one peer and channel have to be opened in the order they were fetched.
        """
        return self._queue.popleft() if self._queue else None

    async def wait(self) -> None:
        """Wait until something has arrived, or somebody wakes those who wait.

        Raises :class:`~laminar.errors.ClosedError` when the receiver is closed.
        """
        if self._closed:
            raise ClosedError(self._closed)
        self._report_all()
        self._arrival = arrival = self._arrival or anyio.Event()
        await arrival.wait()

    def wake(self) -> None:
        """Let those who wait look again."""
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None

    async def let_credit_out(self) -> None:
        """Let the connection's writer tell the sender now, not when all is taken.

        So both sides work at the same time. Not cancelled, since the message in the caller's
        hands would be lost.
        """
        self.credit_due = False
        await cancel_shielded_checkpoint()

    def open(self, item: Item) -> Envelope | None:
        """The message in ``item``, or ``None`` when it is one that must not be delivered.

        An item that brings another schema is opened twice: first comes ``SchemaChanged``.
        Raises what :meth:`recv` raises.
        """
        if not isinstance(item, _Arrived):
            if not self._queue:
                self._report_all()
            return _take_other(item)
        channel, frame = item
        if channel.broken:
            return None  # what follows a frame that is lost must not look complete
        session = channel.session
        try:
            message = channel.take(frame)
        except ProtocolError as error:
            raise self._supply.broken(session, error, self) from error
        if channel is not self._last_touched:
            self._last_touched = channel
            self._touched.add(channel)
        if not self._queue:
            self._report_all()
        elif session.owing:
            self._supply.consumed(session)
            self.credit_due = True
        return session.peer, message

    def _open_next(self, item: Item) -> Envelope | None:
        """Open what was taken from the queue; put it back when there is more in it."""
        envelope = self.open(item)
        if envelope is not None and opens_again(item, envelope):
            self._queue.appendleft(item)
        return envelope

    def _report_all(self) -> None:
        """The consumer has caught up: let every sender know, lest one waits for credit."""
        for channel in self._touched:
            if channel.window.unreported:
                channel.session.owe_credit(channel)
                self._supply.consumed(channel.session)
        self._touched.clear()
        self._last_touched = None


def _take_other(item: _Local | _Farewell | _Loss) -> Envelope:
    """What did not come in a frame. Raises what is an error."""
    if isinstance(item, _Loss):
        raise item.error
    if isinstance(item, _Local):
        item.lane.take(item.size)
        return item.lane.node, item.message
    return item.peer, item.close
