"""Where received frames wait for their consumer."""

from __future__ import annotations

from collections import deque
from typing import Protocol, Self, TypeAlias

import anyio

from laminar.errors import ClosedError, ProtocolError, RemoteError
from laminar.model import NodeId
from laminar.shuffle.frames import Frame
from laminar.shuffle.inbound import InboundChannel, InboundSession
from laminar.shuffle.local import LocalLane
from laminar.shuffle.messages import ChannelMessage, Close, Message


class Supply(Protocol):
    """What the receiver does for its inboxes."""

    def consumed(self, session: InboundSession) -> None:
        """The session owes its peer credit now."""

    def broken(self, session: InboundSession, error: ProtocolError) -> None:
        """A frame of the session turned out to be undecodable."""


Envelope: TypeAlias = tuple[NodeId, Message]
"""The peer a message came from, and the message."""

_Item: TypeAlias = (
    tuple[InboundChannel, Frame] | tuple[LocalLane, ChannelMessage] | tuple[NodeId, Close]
)


class Inbox:
    """A queue of messages from all peers, in order per peer and channel.

    Its size is bounded by the windows of the channels that feed it. Messages that arrived
    before a peer was lost or restarted are delivered before the error is raised, once.
    """

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._queue: deque[_Item | RemoteError] = deque()
        self._arrival: anyio.Event | None = None
        self._touched: set[InboundChannel] = set()
        self._closed = False

    # -- the receiver's side -------------------------------------------------------------

    def put(self, channel: InboundChannel, frame: Frame) -> None:
        """Queue a frame, undecoded."""
        self._queue.append((channel, frame))
        if self._arrival is not None:
            self._wake()

    def put_local(self, lane: LocalLane, message: ChannelMessage) -> None:
        """Queue a message of this very process."""
        self._queue.append((lane, message))
        self._wake()

    def put_close(self, peer: NodeId, close: Close) -> None:
        """Let the consumer know that ``peer`` left on purpose, behind what arrived before."""
        self._queue.append((peer, close))
        self._wake()

    def put_error(self, error: RemoteError) -> None:
        """Let the consumer know, behind what arrived before."""
        self._queue.append(error)
        self._wake()

    def close(self) -> None:
        """Nothing more arrives: waiting consumers get :class:`~laminar.errors.ClosedError`."""
        self._closed = True
        self._wake()

    def split_off(self, name: str, other: Inbox) -> None:
        """Move what waits here of channels called ``name`` to ``other``."""
        kept: deque[_Item | RemoteError] = deque()
        for item in self._queue:
            if isinstance(item, tuple) and isinstance(item[0], InboundChannel):
                (other._queue if item[0].name == name else kept).append(item)
            else:
                kept.append(item)
        self._queue = kept

    # -- the consumer's side -------------------------------------------------------------

    async def recv(self) -> Envelope:
        """Wait for the next message and the id of the peer it came from.

        Raises :class:`~laminar.errors.PeerLostError` or
        :class:`~laminar.errors.PeerRestartedError` once for a peer that is gone before its
        channels ended, and :class:`~laminar.errors.ClosedError` when the receiver is closed.
        """
        while True:
            while self._queue:
                envelope = self._take()
                if envelope is not None:
                    return envelope
            if self._closed:
                raise ClosedError("the receiver is closed")
            self._arrival = arrival = self._arrival or anyio.Event()
            await arrival.wait()

    def drain_available(self) -> list[Envelope]:
        """Everything that is here now, without waiting. Raises what :meth:`recv` raises,
        but only when nothing came before it.
        """
        envelopes: list[Envelope] = []
        while self._queue and not (envelopes and isinstance(self._queue[0], RemoteError)):
            envelope = self._take()
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

    def _take(self) -> Envelope | None:
        """The oldest message, or ``None`` when it could not be decoded."""
        item = self._queue.popleft()
        if isinstance(item, RemoteError):
            raise item
        source, payload = item
        if isinstance(source, InboundChannel):
            return self._take_frame(source, payload)
        if isinstance(source, LocalLane):
            source.take(payload)
            return source.node, payload
        return source, payload

    def _take_frame(self, channel: InboundChannel, frame: Frame) -> Envelope | None:
        session = channel.session
        try:
            message = channel.take(frame)
        except ProtocolError as error:
            self._supply.broken(session, error)
            return None
        self._touched.add(channel)
        if not self._queue:
            self._report_all()
        elif session.has_work:
            self._supply.consumed(session)
        return session.peer, message

    def _report_all(self) -> None:
        """The consumer has caught up: let every sender know, lest one waits for credit."""
        for channel in self._touched:
            if channel.window.unreported:
                channel.session.owe_credit(channel)
                self._supply.consumed(channel.session)
        self._touched.clear()

    def _wake(self) -> None:
        if self._arrival is not None:
            self._arrival.set()
            self._arrival = None
