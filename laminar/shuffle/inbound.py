"""The receiving half of a session with one peer: order, credit, and what is still to be taken.

Pure: frames go in, messages and replies come out. Who accepts, reads and waits is
:mod:`laminar.shuffle.receiver`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import pyarrow as pa

from laminar.config import ShuffleConfig
from laminar.errors import ProtocolError, SchemaError
from laminar.model import Incarnation, NodeId
from laminar.shuffle import control
from laminar.shuffle.arrow import BatchDecoder
from laminar.shuffle.frames import KIND_NAMES, SEQUENCED_MAX, Flag, Frame, Kind, encode_frame
from laminar.shuffle.messages import (
    PROBE_INCARNATION,
    Barrier,
    ChannelMessage,
    Close,
    Data,
    End,
    Hello,
    SchemaChanged,
    Watermark,
    Welcome,
)
from laminar.shuffle.schema_watch import SchemaWatch
from laminar.shuffle.statistics import ChannelStatistics
from laminar.shuffle.window import ReceiveWindow

CONTROL_MESSAGE_BYTES_MAX = 256
"""Largest body of a barrier, watermark or end, of which many may be held."""


class Mailbox(Protocol):
    """Where a channel puts its frames, in order; the driver's inbox."""

    def put(self, channel: InboundChannel, frame: Frame) -> None:
        """Keep ``frame`` until the user takes it."""


class InboundChannel:
    """One named lane from the peer: decodes what the user takes, and counts it."""

    def __init__(self, session: InboundSession, name: str, mailbox: Mailbox) -> None:
        self.session = session
        self.name = name
        self.mailbox = mailbox
        self.ended = False
        self.broken = False
        """Whether a frame could not be decoded: those behind it are not delivered."""
        self.window = ReceiveWindow(session.config.window_bytes, session.config.control_frames_max)
        self.batches = 0
        self.bytes = 0
        self._decoder = BatchDecoder(
            session.config.max_frame_bytes, validate_full=session.config.validates_values
        )
        self._watch = SchemaWatch(name, session.config.schema_change)
        self._announced: Data | None = None
        """The batch in the oldest frame, when the user was told only of its schema yet."""

    def take(self, frame: Frame) -> ChannelMessage | SchemaChanged:
        """The message in the oldest frame of this channel, which is thereby consumed.

        A batch of a new schema takes two calls with its frame: the first returns
        ``SchemaChanged``.

        Raises :class:`~laminar.errors.ProtocolError` when it cannot be decoded; the channel
        is then broken for good.
        """
        try:
            return self._decode(frame)
        except ProtocolError:
            self.broken = True
            raise

    def _decode(self, frame: Frame) -> ChannelMessage | SchemaChanged:
        kind = frame.kind
        if kind == Kind.DATA:
            announced, self._announced = self._announced, None
            if announced is not None:
                return announced
            if self.window.consume(len(frame.body)):
                self.session.owe_credit(self)
            self.batches += 1
            data = self._data(frame)
            if frame.flags & Flag.STREAM_START and self._schema_changed(data.batch.schema):
                self._announced = data
                return SchemaChanged(data.batch.schema, self.name)
            return data
        if self.window.consume(0):
            self.session.owe_credit(self)
        if kind == Kind.WATERMARK:
            return Watermark(control.decode_timestamp(frame.body_bytes()), self.name)
        if kind == Kind.BARRIER:
            barrier, last = control.decode_barrier(frame.body_bytes())
            if last != frame.sequence - 1:
                raise ProtocolError(
                    "gap", f"barrier {frame.sequence} says it follows {last} on {self.name!r}"
                )
            return Barrier(barrier, self.name)
        return End(self.name)

    def _data(self, frame: Frame) -> Data:
        vnode = control.decode_vnode(frame.body) if frame.flags & Flag.VNODE else None
        start = 0 if vnode is None else control.VNODE.size
        starts_stream = bool(frame.flags & Flag.STREAM_START)
        return Data(self._decoder.decode(frame.body, start, starts_stream), self.name, vnode)

    def _schema_changed(self, schema: pa.Schema) -> bool:
        try:
            return self._watch.changed(schema)
        except SchemaError as error:
            raise ProtocolError("schema", str(error)) from error

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            frames=self.window.received,
            batches=self.batches,
            bytes=self.bytes,
            window_used_bytes=self.window.held_bytes,
            window_used_frames=self.window.held,
            credit_bytes=max(0, self.window.window_bytes - self.window.held_bytes),
        )


class InboundSession:
    """What one life of a peer has sent, across as many connections as it took.

    ``mailbox_of`` names the mailbox of a new channel.
    """

    def __init__(
        self, hello: Hello, config: ShuffleConfig, mailbox_of: Callable[[str], Mailbox]
    ) -> None:
        self.peer: NodeId = hello.node
        self.incarnation = hello.incarnation
        self.config = config
        self.round = 0
        self.channels: dict[str, InboundChannel] = {}
        self.connections = 0
        self.begun = False
        """Whether the peer has opened any channel."""
        self.probes = hello.incarnation == PROBE_INCARNATION
        """Whether somebody only tries whether the peer would be let in."""
        self.duplicates = 0
        """Frames that came again after a reconnect and were dropped."""
        self._mailbox_of = mailbox_of
        self._by_number: dict[int, InboundChannel] = {}
        self.owing: dict[str, InboundChannel] = {}
        """Channels whose consumer has taken enough for the peer to hear of it."""
        self._pong: int | None = None
        """The newest token to confirm, which confirms those before."""
        self._ping = False
        """Whether to ask the peer for a sign of life."""

    # -- the connection ------------------------------------------------------------------

    def attach(self, hello: Hello, local: NodeId, incarnation: Incarnation) -> bytes:
        """Begin a connection, superseding the one before; the frame that answers ``hello``.

        Raises :class:`~laminar.errors.ProtocolError` when ``hello`` is of an older round
        than a connection that this session has seen.
        """
        if hello.round <= self.round:
            raise ProtocolError("round", f"round {hello.round} of {self.peer} is not new")
        resumed = self.connections > 0
        self.round = hello.round
        self.connections += 1
        self._by_number.clear()
        self.owing.clear()
        self._pong = None
        self._ping = False
        welcome = Welcome(
            node=local,
            incarnation=incarnation,
            window_bytes=self.config.window_bytes,
            control_frames=self.config.control_frames_max,
            resumed=resumed,
            channels={
                name: (channel.window.received, channel.window.report())
                for name, channel in self.channels.items()
            },
        )
        return encode_frame(Kind.WELCOME, control.encode_welcome(welcome))

    def admit(self, number: int, length: int) -> None:
        """Refuse a large DATA body before memory is taken for it.

        Raises :class:`~laminar.errors.ProtocolError`.
        """
        self._channel(number).window.check_room(length)

    def on_frames(self, frames: Iterable[Frame]) -> Close | None:
        """Take in frames of the current connection; ``Close`` when the peer says goodbye.

        Raises :class:`~laminar.errors.ProtocolError`; what came before the offending frame
        has been taken in.
        """
        by_number = self._by_number
        for frame in frames:
            kind = frame.kind
            if kind > SEQUENCED_MAX:
                close = self._on_connection_frame(frame)
                if close is not None:
                    return close
                continue
            channel = by_number.get(frame.channel) or self._channel(frame.channel)
            charge = 0
            if kind == Kind.DATA:
                charge = len(frame.body)
                if charge == 0:
                    raise ProtocolError("arrow", "a DATA frame without body")
                if frame.flags > Flag.KNOWN:
                    raise ProtocolError("flags", f"unknown flags {frame.flags:#x}")
            elif len(frame.body) > CONTROL_MESSAGE_BYTES_MAX:
                raise ProtocolError("size", f"a {KIND_NAMES[kind]} of {len(frame.body)} bytes")
            if channel.ended and frame.sequence > channel.window.received:
                raise ProtocolError("order", f"a frame follows the end of {channel.name!r}")
            if not channel.window.receive(frame.sequence, charge):
                self.duplicates += 1
                continue
            channel.ended = kind == Kind.END
            channel.bytes += charge
            channel.mailbox.put(channel, frame)
        return None

    def _on_connection_frame(self, frame: Frame) -> Close | None:
        body = frame.body_bytes()
        if frame.kind == Kind.OPEN:
            self._open(frame.channel, control.decode_channel_name(body))
        elif frame.kind == Kind.FORGET:
            self._forget(control.decode_channel_name(body))
        elif frame.kind == Kind.PING:
            self._pong = max(frame.sequence, self._pong or 0)
        elif frame.kind == Kind.CLOSE:
            return control.decode_close(body)
        elif frame.kind != Kind.PONG:
            raise ProtocolError("order", f"a sender does not send {KIND_NAMES[frame.kind]} here")
        return None

    def _open(self, number: int, name: str) -> None:
        if number in self._by_number:
            raise ProtocolError("channel", f"channel {number} was opened twice")
        if self.probes:  # nobody would be told that it is gone
            raise ProtocolError("channel", "a probe opens a channel")
        channel = self.channels.get(name)
        if channel is None:
            if len(self.channels) >= self.config.channels_max:
                raise ProtocolError("channel", f"more than {self.config.channels_max} channels")
            self.begun = True
            channel = InboundChannel(self, name, self._mailbox_of(name))
            self.channels[name] = channel
        elif channel in self._by_number.values():
            raise ProtocolError("channel", f"channel {name!r} was opened twice")
        self._by_number[number] = channel
        if channel.window.unreported:  # consumed between the welcome and now
            self.owe_credit(channel)

    def _forget(self, name: str) -> None:
        """The peer knows that its channel was consumed to its end: there is room for another."""
        channel = self.channels.get(name)
        if channel is None or not channel.ended or channel.window.held:
            raise ProtocolError("channel", f"channel {name!r} is not one to forget")
        del self.channels[name]
        for number in [n for n, known in self._by_number.items() if known is channel]:
            del self._by_number[number]

    def _channel(self, number: int) -> InboundChannel:
        channel = self._by_number.get(number)
        if channel is None:
            raise ProtocolError("channel", f"channel {number} was not opened")
        return channel

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._ping = True

    # -- what the user takes -------------------------------------------------------------

    def owe_all(self) -> None:
        """Tell the peer how far every consumer is: there will be no other opportunity."""
        for channel in self._by_number.values():
            if channel.window.unreported:
                self.owe_credit(channel)

    def owe_credit(self, channel: InboundChannel) -> None:
        """Tell the peer at the next opportunity how far the user of ``channel`` is."""
        self.owing[channel.name] = channel

    @property
    def has_work(self) -> bool:
        """Whether :meth:`take` would return something."""
        return bool(self.owing or self._pong is not None or self._ping)

    def take(self) -> list[bytes]:
        """The replies to send now."""
        replies = []
        if self._pong is not None:
            replies.append(encode_frame(Kind.PONG, sequence=self._pong))
            self._pong = None
        if self._ping:
            replies.append(encode_frame(Kind.PING))
            self._ping = False
        for number, channel in self._by_number.items():
            if channel.name in self.owing:
                sequence = channel.window.report()
                replies.append(encode_frame(Kind.CREDIT, channel=number, sequence=sequence))
        self.owing.clear()
        return replies
