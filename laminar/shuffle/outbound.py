"""The sending half of a session with one peer: channels, their order on the wire, resume.

Pure: messages and frames go in, buffers to send come out. Who dials, waits and writes is
:mod:`laminar.shuffle.sender`.

States of the session, by what has happened to its newest connection::

    DETACHED ──hello()──▶ GREETING ──on_frame(Welcome)──▶ OPEN      (with keys: Challenge first)
        ▲                    │                             │
        └────────────────────┴──────────detach()───────────┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from enum import Enum

import pyarrow as pa

from laminar.cluster.keyring import Keyring
from laminar.config import CHANNELS_MAX, ShuffleConfig
from laminar.errors import (
    ChannelEndedError,
    ConfigError,
    HandshakeRefusedError,
    PeerLostError,
    PeerRestartedError,
    ProtocolError,
)
from laminar.model import Incarnation, NodeId, VNode, node_uri
from laminar.shuffle import control
from laminar.shuffle.arrow import size_of, split_rows
from laminar.shuffle.frames import KIND_NAMES, Frame, Kind, encode_frame, negotiate
from laminar.shuffle.introduction import Introduction
from laminar.shuffle.messages import (
    Close,
    Data,
    Hello,
    Welcome,
)
from laminar.shuffle.outbound_channel import OutboundChannel
from laminar.shuffle.shared import Sendable, SharedData, SharedPiece, check_message
from laminar.shuffle.window import SendBuffer, SendWindow

FORGOTTEN_MAX = 64 * CHANNELS_MAX
"""How many names of channels that are over a session remembers, lest they are used again."""

TURN_BYTES = 256 * 1024
"""How much one channel may send before the next one gets its turn."""


class State(Enum):
    """Of a session: see the module's picture."""

    DETACHED = "detached"
    GREETING = "greeting"
    OPEN = "open"


class OutboundSession:
    """Everything that is on its way to one peer, across as many connections as it takes."""

    def __init__(
        self,
        local: NodeId,
        peer: NodeId,
        incarnation: Incarnation,
        config: ShuffleConfig,
        keyring: Keyring | None,
    ) -> None:
        self.peer = peer
        self.incarnation = incarnation
        self.state = State.DETACHED
        self.round = 0
        self.channels: dict[str, OutboundChannel] = {}
        self.frames_sent = 0
        self.bytes_sent = 0
        self.flushed = 0
        """The newest flush token that the peer has confirmed."""
        self.advanced = False
        """Whether the newest Welcome told of more frames received than the one before."""
        self._received: dict[str, int] = {}
        self._local = local
        self._config = config
        self._keyring = keyring
        self._piece_bytes = config.piece_bytes
        self._by_number: dict[int, OutboundChannel] = {}
        self._forgotten: dict[str, None] = {}
        """Names of channels that are over on both sides, as many as are remembered."""
        self._forgotten_queued = 0
        self._to_forget: list[str] = []
        """Names of channels that the peer does not know to be over."""
        self._ready: deque[OutboundChannel] = deque()
        self._pong: int | None = None
        self._ping = False
        self._peer_incarnation: Incarnation | None = None
        self._window_bytes = config.window_bytes
        self._control_frames = config.control_frames_max
        self._flush_wanted = 0
        self._flush_sent = 0
        self._flush_covers = 0
        self._goodbye = b""
        self._introduction: Introduction | None = None
        self._proof = b""
        self.said_goodbye = False
        """Whether ``Close`` was handed to the connection: nothing follows."""

    # -- what the user sends -------------------------------------------------------------

    def channel(self, name: str) -> OutboundChannel:
        """The channel of that name, opened when it is new.

        Raises :class:`~laminar.errors.ConfigError` when there are too many, and
        :class:`~laminar.errors.ChannelEndedError` when it is over.
        """
        channel = self.channels.get(name)
        if channel is None:
            if name in self._forgotten:
                raise ChannelEndedError(f"channel {name!r} was ended; nothing follows an End")
            if len(self.channels) >= self._config.channels_max:
                self._forget_finished()
            number = next(count for count in range(CHANNELS_MAX) if count not in self._by_number)
            window = SendWindow(self._window_bytes, self._control_frames)
            channel = OutboundChannel(name, number, self._config, window)
            self.channels[name] = self._by_number[number] = channel
            self._schedule(channel)
        return channel

    def _forget_finished(self) -> None:
        """Make room for new channels: those that ended, and were consumed, are over.

        Their names are remembered for longer than it takes the peer to hear of it. Raises
        :class:`~laminar.errors.ConfigError` when there are none.
        """
        finished = [channel for channel in self.channels.values() if channel.finished]
        if not finished:
            raise ConfigError(
                f"more than {self._config.channels_max} channels to {self.peer}: "
                "end those that are done, or raise channels_max on both sides"
            )
        for channel in finished:
            del self.channels[channel.name], self._by_number[channel.number]
            self._forgotten[channel.name] = None
            self._forgotten_queued += channel.queued
            self._to_forget.append(channel.name)
        self._ready = deque(channel for channel in self._ready if not channel.finished)
        while len(self._forgotten) > FORGOTTEN_MAX:
            del self._forgotten[next(iter(self._forgotten))]

    def offer(self, message: Sendable, *, in_turn: bool = False) -> bool:
        """Queue ``message`` if its channel has room for all of it now.

        A batch that needs several frames is queued whole or not at all; one larger than the
        window never is: :meth:`offer_piece` takes its slices one by one. While others wait
        for room, only the one whose turn it is gets in (``in_turn``).
        """
        try:
            channel = self.channels.get(message.channel)
        except AttributeError:
            check_message(message)
            raise
        if channel is None:
            check_message(message)
            channel = self.channel(message.channel)
        if channel.waiting and not in_turn:
            return False
        if isinstance(message, Data):
            queued = channel.join(message.batch, message.vnode) or self._offer_batch(
                channel, message
            )
        elif isinstance(message, SharedData):
            queued = self._offer_shared(channel, message)
        else:
            queued = channel.window.has_control_room()
            if queued:
                channel.push_message(message)
        if queued and not channel.scheduled:
            self._schedule(channel)
        return queued

    def _offer_batch(self, channel: OutboundChannel, message: Data) -> bool:
        if type(message.batch) is not pa.RecordBatch:
            return False  # of another library: the driver turns it into record batches
        size = size_of(message.batch)
        if size <= self._piece_bytes:
            if not channel.has_room(size):
                return False
            channel.push_batch(message.batch, size, message.vnode)
            return True
        if channel.used_bytes + size > channel.window.window_bytes:
            return False
        for piece in list(self.pieces(message.batch)):
            channel.push_batch(piece, size_of(piece), message.vnode)
        return True

    def _offer_shared(self, channel: OutboundChannel, message: SharedData) -> bool:
        first, *rest = message.pieces
        size = channel.shared_size(first) + sum(piece.size for piece in rest)
        if rest and channel.used_bytes + size > channel.window.window_bytes:
            return False
        if not channel.has_room(size):
            return False
        for piece in message.pieces:
            channel.push_shared(piece)
        return True

    def pieces(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """``batch`` cut by rows into slices that fit a frame each."""
        return split_rows(batch, self._piece_bytes, self._config.max_frame_bytes)

    def offer_piece(
        self, channel: OutboundChannel, batch: pa.RecordBatch, vnode: VNode | None
    ) -> bool:
        """Queue one of the :meth:`pieces` of a batch, if there is room."""
        size = size_of(batch)
        if not channel.has_room(size):
            return False
        channel.push_batch(batch, size, vnode)
        self._schedule(channel)
        return True

    def offer_shared_piece(self, channel: OutboundChannel, piece: SharedPiece) -> bool:
        """Queue one piece of a shared batch, if there is room."""
        if not channel.has_room(channel.shared_size(piece)):
            return False
        channel.push_shared(piece)
        self._schedule(channel)
        return True

    def request_flush(self) -> int:
        """Ask the peer to confirm all that was queued until now; the token to wait for."""
        queued = self._forgotten_queued
        queued += sum(channel.queued for channel in self._by_number.values())
        if not any(channel.used or not channel.announced for channel in self._by_number.values()):
            self._flush_covers = queued  # all of it was consumed, hence received
        elif queued > self._flush_covers:
            self._flush_covers = queued
            self._flush_wanted += 1
            for channel in self._by_number.values():
                channel.mark_flush()
        return self._flush_wanted

    def request_close(self, reason: str) -> None:
        """Say goodbye once everything queued is sent."""
        self._goodbye = encode_frame(Kind.CLOSE, control.encode_close(Close(reason)))

    def ping(self) -> None:
        """Ask the peer for a sign of life; confirms no flush but those confirmed before."""
        if self.state is State.OPEN:
            self._ping = True

    @property
    def outstanding(self) -> bool:
        """Whether the peer may lack something that was sent to it."""
        return self.flushed < self._flush_wanted or self._any_used()

    def _any_used(self) -> bool:
        return any(channel.used for channel in self._by_number.values())

    # -- the connection ------------------------------------------------------------------

    def check_certificate(self, certified: Collection[str] | None) -> None:
        """Check that the certificate with these URIs is the peer's; None without TLS.

        Raises :class:`~laminar.errors.ProtocolError` when it is not.
        """
        uri = node_uri(self._config.cluster, self.peer)
        if certified is not None and uri not in certified:
            raise ProtocolError("certificate", f"the certificate of {self.peer} lacks {uri}")

    def hello(self, nonce: bytes = b"") -> bytes:
        """Begin a new connection: the frame that introduces this side.

        ``nonce`` is of random bytes, never used twice; without keys it is not needed.
        """
        self.round += 1
        self.state = State.GREETING
        hello = Hello(self._config.cluster, self._local, self.incarnation, self.round)
        keys = () if self._keyring is None else self._keyring.keys
        self._introduction = Introduction(hello, keys, nonce)
        return self._introduction.frame

    def on_preface(self, preface: bytes) -> None:
        """Take in the first bytes from the peer.

        Raises :class:`~laminar.errors.ProtocolError` when they are not of this protocol.
        """
        negotiate(preface)
        if self._introduction is not None:
            self._introduction.peer_preface = preface

    def take_proof(self) -> bytes:
        """The answer to the peer's challenge, once; empty when there is none to give."""
        proof, self._proof = self._proof, b""
        return proof

    def detach(self) -> None:
        """The connection is gone; what it did not deliver waits for the next one."""
        self.state = State.DETACHED
        self.said_goodbye = False
        self._pong, self._ping, self._proof = None, False, b""

    def on_frame(self, frame: Frame) -> None:
        """Take in a frame from the peer; some channels may have room afterwards.

        Raises :class:`~laminar.errors.RemoteError`; the session is then over.
        """
        body = frame.body_bytes()
        if frame.kind == Kind.CLOSE:
            self._on_close(control.decode_close(body))
        if self.state is State.GREETING and self._introduction is not None:
            if frame.kind == Kind.CHALLENGE:
                challenge = control.decode_challenge(body)
                self._check_identity(challenge.node)
                self._proof = self._introduction.answer(challenge)
            elif frame.kind == Kind.WELCOME:
                self._introduction.check_proven()
                self._on_welcome(control.decode_welcome(body))
            else:
                raise ProtocolError("order", f"{KIND_NAMES[frame.kind]} instead of Welcome")
        elif frame.kind == Kind.CREDIT:
            self._on_credit(frame)
        elif frame.kind == Kind.PONG:
            if frame.sequence > self._flush_sent:
                raise ProtocolError("order", f"a Pong for Ping {frame.sequence}, never sent")
            self.flushed = max(self.flushed, frame.sequence)
        elif frame.kind == Kind.PING:
            self._pong = frame.sequence
        else:
            raise ProtocolError("order", f"a receiver does not send {KIND_NAMES[frame.kind]}")

    def _on_close(self, close: Close) -> None:
        if self.state is State.GREETING:
            raise HandshakeRefusedError(f"peer {self.peer} refused the connection: {close.reason}")
        raise PeerLostError(f"peer {self.peer} closed the connection: {close.reason}")

    def _check_identity(self, found: NodeId) -> None:
        if found != self.peer:
            raise ProtocolError("identity", f"expected peer {self.peer}, found {found}")

    def _on_welcome(self, welcome: Welcome) -> None:
        self._check_identity(welcome.node)
        if self._peer_incarnation not in (None, welcome.incarnation):
            raise PeerRestartedError(
                f"peer {self.peer} restarted: what was sent to it before may be lost"
            )
        if self._peer_incarnation is not None and not welcome.resumed:
            raise PeerLostError(
                f"peer {self.peer} has given up the session: what it had not consumed is lost"
            )
        self._peer_incarnation = welcome.incarnation
        received = {name: sequence for name, (sequence, _) in welcome.channels.items()}
        self.advanced = any(now > self._received.get(name, 0) for name, now in received.items())
        self._received = received
        self._window_bytes = min(self._config.window_bytes, welcome.window_bytes)
        self._control_frames = min(self._config.control_frames_max, welcome.control_frames)
        self._ready.clear()
        for channel in self._by_number.values():
            channel.announced = channel.scheduled = False
            channel.window.window_bytes = self._window_bytes
            channel.window.control_frames = self._control_frames
            channel.window.rewind(*welcome.channels.get(channel.name, (0, 0)))
            self._schedule(channel)
        self._to_forget = [name for name in welcome.channels if name not in self.channels]
        self._flush_sent = self.flushed
        self.state = State.OPEN

    def _on_credit(self, frame: Frame) -> None:
        channel = self._by_number.get(frame.channel)
        if channel is None:
            raise ProtocolError("channel", f"credit for unknown channel {frame.channel}")
        channel.window.consume(frame.sequence)
        self._schedule(channel)
        # What was consumed has been received, whether or not the peer stays to say so.
        if self.flushed < self._flush_wanted and not self._any_used():
            self.flushed = self._flush_wanted

    # -- what goes onto the wire ---------------------------------------------------------

    @property
    def has_work(self) -> bool:
        """Whether :meth:`take` may return something."""
        return bool(
            self._ready
            or self._to_forget
            or self._ping
            or self._pong is not None
            or self._flush_sent < self._flush_wanted
            or (self._goodbye and not self.said_goodbye)
        )

    def take(self, bytes_max: int) -> list[SendBuffer]:
        """The next buffers to send, about ``bytes_max`` in all; empty when there is nothing."""
        buffers: list[SendBuffer] = self._take_signs_of_life()
        for name in self._to_forget:
            buffers.append(encode_frame(Kind.FORGET, control.encode_channel_name(name)))
        self._to_forget.clear()
        room = bytes_max
        while self._ready and room > 0:
            channel = self._ready.popleft()
            channel.scheduled = False
            if not channel.announced:
                channel.announced = True
                body = control.encode_channel_name(channel.name)
                buffers.append(encode_frame(Kind.OPEN, body, channel=channel.number))
            taken, more = self._take_turn(channel, min(room, TURN_BYTES), buffers)
            room -= taken
            if more:
                self._schedule(channel)
        self._take_requests(buffers)
        return join_small(buffers)

    def _take_signs_of_life(self) -> list[SendBuffer]:
        signs: list[SendBuffer] = []
        if self._pong is not None:
            signs.append(encode_frame(Kind.PONG, sequence=self._pong))
            self._pong = None
        if self._ping:
            signs.append(encode_frame(Kind.PING, sequence=self.flushed))
            self._ping = False
        return signs

    def _take_requests(self, buffers: list[SendBuffer]) -> None:
        """A flush goes behind what was queued before it, a goodbye behind everything."""
        if self._flush_sent < self._flush_wanted and all(
            channel.past_flush_mark for channel in self._by_number.values()
        ):
            self._flush_sent = self._flush_wanted
            buffers.append(encode_frame(Kind.PING, sequence=self._flush_sent))
        if self._goodbye and not self.said_goodbye and self._all_sent():
            self.said_goodbye = True
            buffers.append(self._goodbye)

    def _take_turn(
        self, channel: OutboundChannel, bytes_max: int, buffers: list[SendBuffer]
    ) -> tuple[int, bool]:
        """Take up to ``bytes_max`` of one channel; also whether it has more that may go."""
        window, taken, frames = channel.window, 0, 0
        while taken < bytes_max:
            frame = window.take()
            if frame is None:
                if window.unsent or not channel.pending:
                    break
                channel.seal()
                continue
            buffers.extend(frame.buffers)
            taken += frame.size
            frames += 1
        self.frames_sent += frames
        self.bytes_sent += taken
        return taken, taken >= bytes_max and not channel.idle

    def _all_sent(self) -> bool:
        return all(channel.idle for channel in self._by_number.values())

    def _schedule(self, channel: OutboundChannel) -> None:
        if not channel.scheduled:
            channel.scheduled = True
            self._ready.append(channel)


def join_small(buffers: Iterable[SendBuffer]) -> list[SendBuffer]:
    """Join neighbouring byte strings: frame headers, metadata, control frames."""
    joined: list[SendBuffer] = []
    run: list[bytes] = []
    for buffer in buffers:
        if type(buffer) is bytes:
            run.append(buffer)
        else:
            if run:
                joined.append(run[0] if len(run) == 1 else b"".join(run))
                run = []
            joined.append(buffer)
    if run:
        joined.append(run[0] if len(run) == 1 else b"".join(run))
    return joined
