"""The driver of one accepted connection, from its welcome to its end: reads, answers, watches."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

import anyio

from laminar.errors import ProtocolError, StreamBrokenError, StreamClosedError, StreamError
from laminar.net.stream import ByteStream
from laminar.shuffle.farewell import close_frame, tell
from laminar.shuffle.frames import FrameDecoder
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.messages import Close
from laminar.shuffle.vigil import Vigil

Outcome: TypeAlias = Close | ProtocolError | StreamError
"""How a connection ended: by a goodbye, by what the peer did wrong, or by itself."""


class InboundConnection:
    """The current connection of a session.

    What the end of it means is the receiver's to say.
    """

    def __init__(self, stream: ByteStream, session: InboundSession, welcome: bytes) -> None:
        self.session = session
        self.vigil = Vigil(stream, session.config, self._ping)
        self.closed = anyio.Event()
        """Set when the writer has ended."""
        self._stream = stream
        self._welcome = welcome
        """The end of the handshake, to be sent first."""
        self._superseded = False
        self._closing = False
        """Whether the writer is to say goodbye."""
        self._writing = False
        """Whether the writer is in the middle of a call: nobody else may write then."""
        self._sleeps: anyio.Event | None = None

    # -- the receiver's side -------------------------------------------------------------

    def wake(self) -> None:
        """There may be something to write."""
        if self._sleeps is not None:
            self._sleeps.set()
            self._sleeps = None

    def say_goodbye(self) -> None:
        """Tell the peer how far its consumers are, and that this is the end."""
        self.session.owe_all()
        self._closing = True
        self.wake()

    def supersede(self) -> None:
        """A newer connection has taken over the session: take in nothing more."""
        self._superseded = True
        self._stream.close()

    def cut(self) -> None:
        """Hang up."""
        self._stream.close()

    async def run(self, decoder: FrameDecoder, drops: Counter[str]) -> Outcome:
        """Read and write until the connection ends; why it did, counted in ``drops``."""
        outcome: Outcome
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            tasks.start_soon(self.vigil.keep)
            try:
                outcome = await self._read(decoder)
            except ProtocolError as error:
                outcome = error
            except StreamError as error:
                outcome = self.vigil.cause(error)
            finally:
                tasks.cancel_scope.cancel()
        if self.vigil.dead:
            drops["silent"] += 1
        if isinstance(outcome, ProtocolError):
            drops[outcome.reason] += 1
            if not self._writing:
                await tell(self._stream, close_frame(str(outcome)))
        return outcome

    # -- its tasks -----------------------------------------------------------------------

    def _ping(self) -> None:
        self.session.ping()
        self.wake()

    async def _read(self, decoder: FrameDecoder) -> Close:
        """Receive until the peer says goodbye."""
        session, stream, vigil = self.session, self._stream, self.vigil
        while True:
            count = await stream.receive_into(decoder.buffer())
            if self._superseded:
                raise StreamClosedError("a newer connection of the peer has taken over")
            if count == 0:
                raise StreamBrokenError(f"peer {session.peer} closed the connection")
            vigil.heard()
            close = session.on_frames(decoder.received(count))
            if close is not None:
                return close
            if self._sleeps is not None and session.has_work:
                self.wake()

    async def _write(self) -> None:
        """Send the welcome, credit and answers, and sleep while there are none."""
        replies = [self._welcome]
        try:
            while True:
                if replies:
                    self._writing = True
                    await self._stream.send_vectored([b"".join(replies)])
                    self._writing = False
                elif self._closing:
                    break
                else:
                    self._sleeps = sleeps = anyio.Event()
                    await sleeps.wait()
                replies = self.session.take()
            await self._stream.send_vectored([close_frame("the receiver is done")])
        except StreamError:
            self._stream.close()  # the reader hears of it, and ends the connection
        finally:
            self._sleeps = None
            self.closed.set()
