"""The driver of one peer's outbound session: dials, greets, reads, writes, dials again.

A link lives in the sender's task group. It decides nothing: what to send and what an answer
means is the session's to say.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from functools import partial
from weakref import WeakKeyDictionary

import anyio

from laminar.backoff import backoff_s
from laminar.config import ShuffleConfig
from laminar.errors import (
    ClosedError,
    LaminarError,
    PeerLostError,
    PeerRestartedError,
    PeerUnreachableError,
    ProtocolError,
    RemoteError,
    StreamBrokenError,
    StreamError,
    UnknownPeerError,
)
from laminar.net.stream import ByteStream, Network, receive_exactly
from laminar.net.tls import certified
from laminar.shuffle.arrow import batches_of
from laminar.shuffle.authentication import NONCE_BYTES
from laminar.shuffle.farewell import close_frame, tell
from laminar.shuffle.frames import (
    PREFACE,
    FrameDecoder,
    encode_preface,
)
from laminar.shuffle.liveness import PeerState
from laminar.shuffle.messages import Data
from laminar.shuffle.outbound import OutboundSession, State
from laminar.shuffle.outbound_channel import OutboundChannel
from laminar.shuffle.shared import Sendable, SharedData
from laminar.shuffle.vigil import Vigil

WRITE_BYTES = 2 * 1024 * 1024
"""About how much one call of the stream sends."""


class Link:
    """A peer of a sender: its session, and the connection if there is one."""

    def __init__(
        self,
        session: OutboundSession,
        config: ShuffleConfig,
        network: Network,
        resolve: Callable[[], Awaitable[str]],
        rng: random.Random,
        note: Callable[[PeerState, str], None],
    ) -> None:
        self.session = session
        self.alive = False
        """The liveness flag: whether there is a connection that works as far as we know."""
        self.connections = 0
        self.trouble = ""
        """Why the last attempt to connect failed, or the last connection ended."""
        self.dials_in_vain = False
        """Whether it tries to connect, and the last attempt led nowhere."""
        self.failure: LaminarError | None = None
        """Why the link gave up; it is of no use afterwards."""
        self.closed = False
        """Whether the link has ended, for whatever reason."""
        self.failure_told = False
        """Whether some caller has been given the failure."""
        self.owed: dict[str, LaminarError] = {}
        """By channel whose users do not know yet: why it lost what was on its way, with this link
        or the one before."""
        self._config = config
        self._network = network
        self._resolve = resolve
        self._rng = rng
        self._note = note
        self.vigil: Vigil | None = None
        """Who watches over the connection, while there is one."""
        self._addr = ""
        """Where the newest attempt to connect led to."""
        self._stream: ByteStream | None = None
        """The connection that works as far as we know."""
        self.writer_sleeps: anyio.Event | None = None
        """Set by :meth:`wake_writer`; ``None`` while the writer is busy."""
        self._progress = anyio.Event()
        self._locks: WeakKeyDictionary[OutboundChannel, anyio.Lock] = WeakKeyDictionary()
        """Of the channels that somebody has waited for, to keep their senders in order."""
        self._closing = False
        self._fruitless = 0
        """Connections in a row that carried nothing, either way, after the handshake."""

    # -- the callers' side ---------------------------------------------------------------

    def offer(self, message: Sendable) -> bool:
        """Queue ``message`` if there is room for it now."""
        if not self.session.offer(message):
            return False
        if self.writer_sleeps is not None:
            self.wake_writer()
        return True

    async def send(self, message: Sendable) -> None:
        """Queue ``message``, waiting for room behind those who came before."""
        channel = self.session.channel(message.channel)
        lock = self._locks.setdefault(channel, anyio.Lock())
        channel.waiting += 1
        try:
            async with _turn(channel, lock):
                if isinstance(message, Data):
                    await self._send_batch(channel, message)
                elif isinstance(message, SharedData):
                    for piece in message.pieces:
                        offer = partial(self.session.offer_shared_piece, channel, piece)
                        await self._queue(channel, offer)
                else:
                    await self._queue(channel, partial(self.session.offer, message, in_turn=True))
        finally:
            channel.waiting -= 1

    async def _queue(self, channel: OutboundChannel, offer: Callable[[], bool]) -> None:
        """Wait until ``offer`` has found room on ``channel``; raises the link's failure."""
        self._check_usable(channel.name)
        if not offer():
            with _blocked(channel):
                await self.until(offer, channel.name)
        self.wake_writer()

    async def _send_batch(self, channel: OutboundChannel, message: Data) -> None:
        for batch in batches_of(message.batch):
            channel.check_schema(batch.schema)  # at once, not when there is room
            for piece in list(self.session.pieces(batch)):  # too large a row: nothing is sent
                offer = partial(self.session.offer_piece, channel, piece, message.vnode)
                await self._queue(channel, offer)

    async def flush(self) -> None:
        """Wait until the peer has received everything queued so far."""
        token = self.session.request_flush()
        self.wake_writer()
        await self.until(lambda: self.session.flushed >= token)

    async def until(self, condition: Callable[[], bool], channel: str | None = None) -> None:
        """Wait until ``condition`` holds, trying after each answer of the peer.

        Raises the link's failure, on behalf of the users of ``channel`` or of all.
        """
        while True:
            self._check_usable(channel)
            if condition():
                return
            await self._progress.wait()

    def _check_usable(self, channel: str | None) -> None:
        if self.failure is not None:
            raise self.tell_failure(channel)
        if self.closed:
            raise ClosedError(f"the sender was closed; {self.session.peer} may lack messages")

    def tell_failure(self, channel: str | None = None) -> LaminarError:
        """The failure, which from now on counts as told to the users of ``channel``, or to all."""
        self.failure_told = True
        if channel is None:
            self.owed.clear()
        else:
            self.owed.pop(channel, None)
        return self.failure or ClosedError(f"the link to {self.session.peer} is closed")

    def wake_writer(self) -> None:
        """There may be something to write."""
        if self.writer_sleeps is not None:
            self.writer_sleeps.set()
            self.writer_sleeps = None

    def _made_progress(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()

    # -- the connection's side -----------------------------------------------------------

    async def run(self) -> None:
        """Keep a connection to the peer until it is lost for good or the link is closed."""
        try:
            while not self._closing:
                stream, decoder = await self._connect()
                with closing(stream):
                    await self._serve(stream, decoder)
                if self._fruitless > 1:  # the first time, the next Welcome may tell better
                    await anyio.sleep(self._pause_s(self._fruitless - 2))
        except (RemoteError, UnknownPeerError) as error:
            if isinstance(error, RemoteError):
                error.peer = self.session.peer
            self.failure = error
            unfinished = [c.name for c in self.session.channels.values() if not c.finished]
            self.owed.update(dict.fromkeys(unfinished, error))
            restarted = isinstance(error, PeerRestartedError)
            self._note(PeerState.RESTARTED if restarted else PeerState.LOST, str(error))
        finally:
            self.alive = self.dials_in_vain = False
            self.closed = True
            self.session.detach()
            self._made_progress()

    async def close(self, reason: str) -> None:
        """Say goodbye behind everything queued, and wait until the peer has hung up."""
        self._closing = True
        if self.alive:
            self.session.request_close(reason)
            self.wake_writer()
            while self.alive:
                await self._progress.wait()

    def follow(self, addr: str) -> None:
        """Leave a connection that leads elsewhere than to ``addr``; the next dial finds the way."""
        if self._stream is not None and addr != self._addr:
            self._stream.close()

    async def _connect(self) -> tuple[ByteStream, FrameDecoder]:
        """Dial until it works; give up, or if nothing is at stake go to sleep, in time."""
        attempt = 0
        deadline = anyio.current_time() + self._config.reconnect_timeout_s
        while True:
            try:
                with anyio.fail_after(self._config.dial_timeout_s):
                    return await self._dial()
            except (StreamError, ProtocolError, UnknownPeerError, TimeoutError) as error:
                self.trouble = str(error) or "no answer"
                self.dials_in_vain = not isinstance(error, UnknownPeerError)
            pause = self._pause_s(attempt)
            attempt += 1
            if anyio.current_time() + pause >= deadline:
                if self.session.outstanding:
                    raise self._give_up()
                self.dials_in_vain = False
                await self._sleep_until_needed()
                deadline = anyio.current_time() + self._config.reconnect_timeout_s
                attempt = 0
            else:
                await anyio.sleep(pause)

    def _pause_s(self, attempt: int) -> float:
        config = self._config
        return backoff_s(attempt, config.backoff_initial_s, config.backoff_max_s, self._rng)

    def _give_up(self) -> RemoteError:
        after = f"after {self._config.reconnect_timeout_s:g} s of trying"
        if self.connections:
            return PeerLostError(f"peer {self.session.peer} is lost {after}: {self.trouble}")
        return PeerUnreachableError(
            f"peer {self.session.peer} is unreachable {after}: {self.trouble}"
        )

    async def _dial(self) -> tuple[ByteStream, FrameDecoder]:
        """Connect and shake hands once, with the address as it is now."""
        self._addr = await self._resolve()
        stream = await self._network.connect(self._addr)
        try:
            self.session.check_certificate(await certified(stream))
            nonce = self._rng.randbytes(NONCE_BYTES)
            await stream.send_vectored([encode_preface(), self.session.hello(nonce)])
            self.session.on_preface(await receive_exactly(stream, PREFACE.size))
            decoder = FrameDecoder(_no_data)
            decoder.open_for_data(_no_data, 0)
            while self.session.state is State.GREETING:
                await self._receive(stream, decoder)
                if proof := self.session.take_proof():
                    await stream.send_vectored([proof])
        except BaseException as error:
            self.session.detach()
            if isinstance(error, PeerLostError | PeerRestartedError):
                # Else the peer would wait for this session, of which it has seen nothing.
                await tell(stream, close_frame("the session before is lost"))
            stream.close()
            raise
        self.connections += 1
        self.alive = True
        self.dials_in_vain = False
        self._fruitless = 1 if self.session.advanced else self._fruitless + 1
        self._note(PeerState.CONNECTED, "")
        return stream, decoder

    async def _serve(self, stream: ByteStream, decoder: FrameDecoder) -> None:
        """Read and write until the connection ends; raise when the peer is lost with it."""
        failure: RemoteError | None = None
        self._stream = stream
        self.vigil = vigil = Vigil(stream, self._config, self._ping)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, stream)
            tasks.start_soon(vigil.keep)
            try:
                while True:
                    await self._receive(stream, decoder)
                    vigil.heard()
                    self._fruitless = 0
            except StreamError as error:
                # Only this connection is gone: the session resumes on the next one.
                self.trouble = str(vigil.cause(error))
                self._note(PeerState.DISCONNECTED, self.trouble)
            except RemoteError as error:
                failure = error
            finally:
                self.vigil = self._stream = None
                tasks.cancel_scope.cancel()
        self.alive = False
        self.session.detach()
        self._made_progress()
        if failure is not None:
            if self.session.outstanding or not isinstance(failure, PeerLostError):
                raise failure
            self._note(PeerState.LEFT, str(failure))
            await self._sleep_until_needed()

    def _ping(self) -> None:
        self.session.ping()
        self.wake_writer()

    async def _receive(self, stream: ByteStream, decoder: FrameDecoder) -> None:
        """Receive once, at least until one frame is complete, and act on what came."""
        frames: Iterable[object] = ()
        while not frames:
            count = await stream.receive_into(decoder.buffer())
            if count == 0:
                raise StreamBrokenError(f"peer {self.session.peer} closed the connection")
            frames = received = decoder.received(count)
            for frame in received:
                self.session.on_frame(frame)
        self._made_progress()
        if self.session.has_work:
            self.wake_writer()

    async def _write(self, stream: ByteStream) -> None:
        """Send what the session has to send, and sleep while there is nothing."""
        try:
            while not self.session.said_goodbye:
                buffers = self.session.take(WRITE_BYTES)
                if buffers:
                    await stream.send_vectored(buffers)
                else:
                    self.writer_sleeps = sleeps = anyio.Event()
                    await sleeps.wait()
            await stream.send_eof()
        except StreamError:
            stream.close()  # the reader hears of it, and ends the connection
        finally:
            self.writer_sleeps = None

    async def _sleep_until_needed(self) -> None:
        """Wait, without a connection, until there is something to send."""
        while not self.session.outstanding and not self._closing:
            self.writer_sleeps = sleeps = anyio.Event()
            await sleeps.wait()


@asynccontextmanager
async def _turn(channel: OutboundChannel, lock: anyio.Lock) -> AsyncIterator[None]:
    """Hold the lock of ``channel``, behind those who came before."""
    with _blocked(channel) if lock.locked() else nullcontext():
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _blocked(channel: OutboundChannel) -> Iterator[None]:
    """Whoever wants to send waits."""
    channel.blocked.begin(anyio.current_time())
    try:
        yield
    finally:
        channel.blocked.end(anyio.current_time())


def _no_data(channel: int, length: int) -> None:
    raise ProtocolError("order", f"a receiver does not send a body of {length} bytes")
