"""What the reader and the writer of one accepted connection share."""

from __future__ import annotations

import anyio

from laminar.net.stream import ByteStream
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.vigil import Vigil


class InboundConnection:
    """The current connection of a session, and how to wake its writer."""

    def __init__(self, stream: ByteStream, session: InboundSession, welcome: bytes) -> None:
        self.stream = stream
        self.session = session
        self.welcome = welcome
        """The end of the handshake, to be sent first."""
        self.closing = False
        """Whether the writer is to say goodbye."""
        self.closed = anyio.Event()
        """Set when the writer has ended."""
        self.writing = False
        """Whether the writer is in the middle of a call: nobody else may write then."""
        self.sleeps: anyio.Event | None = None
        self.vigil = Vigil(stream, session.config, self.ping)

    def ping(self) -> None:
        self.session.ping()
        self.wake()

    def wake(self) -> None:
        if self.sleeps is not None:
            self.sleeps.set()
            self.sleeps = None
