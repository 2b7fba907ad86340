"""TLS 1.3 as a layer over any network: encrypted streams between nodes that show certificates.

Python's ``ssl`` does the cryptography between two buffers in memory; what goes in and out of
them travels over a stream of the network below, which may be TCP or a simulated one.

A certificate names a node, not a host: the drivers compare the URIs in it (:func:`certified`)
with the node that a peer says it is. Sessions are never resumed, so that every connection
shows its certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from typing import Final, cast

import anyio

from laminar.config import TlsConfig
from laminar.errors import (
    StreamBrokenError,
    StreamClosedError,
    StreamError,
    StreamUntrustedError,
)
from laminar.net.credentials import Credentials, reason_of
from laminar.net.statistics import CertificateStatistics
from laminar.net.stream import ByteStream, Listener, Network, SendBuffer

CHUNK_BYTES: Final = 256 * 1024
"""How much is encrypted, or received for decryption, at a time: little enough for the cache."""

RECORD_BYTES: Final = 16 * 1024
"""Most that fits a record of TLS; smaller buffers are joined up to it."""


class TlsStream:
    """A :class:`~laminar.net.stream.ByteStream` inside another one.

    The handshake is made by :meth:`handshake`, or by the first call that sends or receives.
    What is encrypted is sent whole or the stream is closed, so that a cancelled call never
    leaves the other side with a torn record. Receiving never sends: what TLS itself may want
    to say goes out with whatever is sent next.
    """

    def __init__(self, inner: ByteStream, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._received: memoryview | None = None
        self._decrypted = bytearray()
        """What was received ahead by :meth:`send_eof`."""
        self._lock = anyio.Lock()
        """Of the handshake, which a sending and a receiving task may both begin."""
        self._open = False
        self._ended = False
        self._closed = False

    async def handshake(self) -> None:
        """Let both sides show their certificates, if they have not yet.

        Raises :class:`~laminar.errors.StreamUntrustedError`, or another
        :class:`~laminar.errors.StreamError`. The caller limits the time.
        """
        if self._open:
            return
        async with self._lock:
            if self._open:
                return
            if self._closed:
                raise StreamClosedError("the connection was closed on this side")
            try:
                await self._shake_hands()
            except BaseException:
                self.close()  # half a handshake is of no use
                raise

    async def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                await self._flush()
                self._open = True
                return
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as error:
                await self._tell_why()
                raise _untrusted(error) from error

    async def _tell_why(self) -> None:
        """Send the alert, if anybody listens."""
        try:
            await self._flush()
        except StreamError:
            return  # the other side is gone: it does not matter to it any more

    @property
    def uris(self) -> frozenset[str]:
        """The URIs in the other side's certificate; none before the handshake."""
        certificate = self._tls.getpeercert() or {}
        names = certificate.get("subjectAltName", ())
        return frozenset(str(name[1]) for name in names if name[0] == "URI")

    async def send_vectored(self, buffers: Sequence[SendBuffer]) -> None:
        await self.handshake()
        try:
            for piece in _pieces(buffers):
                sent = 0
                while sent < len(piece):
                    sent += self._tls.write(piece[sent : sent + CHUNK_BYTES])
                    if self._outgoing.pending >= CHUNK_BYTES:
                        await self._flush()
            await self._flush()
        except ssl.SSLError as error:
            self.close()
            raise _broken(error) from error

    async def receive_into(self, buffer: memoryview) -> int:
        await self.handshake()
        if self._decrypted:
            count = min(len(buffer), len(self._decrypted))
            buffer[:count] = self._decrypted[:count]
            del self._decrypted[:count]
            return count
        while True:
            try:
                count = self._decrypt_into(buffer)
            except ssl.SSLError as error:
                self.close()
                raise _broken(error) from error
            if count or self._ended:
                return count
            await self._feed()

    def _decrypt_into(self, buffer: memoryview) -> int:
        """What is here already, as far as it fits."""
        filled = 0
        try:
            while filled < len(buffer) and not self._ended:
                # With a buffer it is a count that comes back.
                count = cast(int, self._tls.read(len(buffer) - filled, buffer[filled:]))
                filled += count
                self._ended = count == 0
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        return filled

    async def send_eof(self) -> None:
        await self.handshake()
        try:
            # OpenSSL drops, and takes for an error, what it finds when it says goodbye.
            ahead = memoryview(bytearray(RECORD_BYTES))
            while count := self._decrypt_into(ahead):
                self._decrypted += ahead[:count]
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # the other side may go on sending
        except ssl.SSLError as error:
            self.close()
            raise _broken(error) from error
        await self._flush()
        await self._inner.send_eof()

    def close(self) -> None:
        self._closed = True
        self._inner.close()

    async def _flush(self) -> None:
        """Send all that is encrypted."""
        if self._outgoing.pending:
            try:
                await self._inner.send_vectored([self._outgoing.read()])
            except BaseException:
                self.close()  # part of a record may be sent
                raise

    async def _feed(self) -> None:
        """Receive more to decrypt."""
        if self._received is None:
            self._received = memoryview(bytearray(CHUNK_BYTES))
        count = await self._inner.receive_into(self._received)
        if count == 0:
            raise StreamBrokenError("the connection ended without the goodbye of TLS")
        self._incoming.write(self._received[:count])


async def certified(stream: ByteStream) -> frozenset[str] | None:
    """The URIs in the certificate of the other side; None when ``stream`` is not of TLS.

    Makes the handshake if it was not made yet; see :meth:`TlsStream.handshake`.
    """
    if not isinstance(stream, TlsStream):
        return None
    await stream.handshake()
    return stream.uris


class TlsListener:
    """A :class:`~laminar.net.stream.Listener` whose streams are encrypted.

    Accepting does not wait for a stream's handshake: a silent client holds up nobody.
    """

    def __init__(self, inner: Listener, credentials: Credentials) -> None:
        self._inner = inner
        self._credentials = credentials

    @property
    def local_addr(self) -> str:
        return self._inner.local_addr

    async def accept(self) -> TlsStream:
        stream = await self._inner.accept()
        return TlsStream(stream, self._credentials.context(server_side=True), server_side=True)

    def close(self) -> None:
        self._inner.close()


class TlsNetwork:
    """A :class:`~laminar.net.stream.Network` that encrypts the streams of another one.

    Raises :class:`~laminar.errors.ConfigError` when the files cannot be used.
    """

    def __init__(self, inner: Network, config: TlsConfig) -> None:
        self._inner = inner
        self._credentials = Credentials(config)

    async def connect(self, addr: str) -> TlsStream:
        """Connect and shake hands. Raises :class:`~laminar.errors.StreamError`."""
        inner = await self._inner.connect(addr)
        context = self._credentials.context(server_side=False)
        stream = TlsStream(inner, context, server_side=False)
        await stream.handshake()
        return stream

    async def listen(self, addr: str) -> TlsListener:
        """Listen at ``addr`` of the network below."""
        return TlsListener(await self._inner.listen(addr), self._credentials)

    def statistics(self) -> CertificateStatistics:
        """A snapshot of the certificate files."""
        return self._credentials.statistics()


def _pieces(buffers: Sequence[SendBuffer]) -> Iterator[memoryview]:
    """``buffers`` as bytes, with small neighbours joined: each piece makes records of its own."""
    run: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if run and size + len(view) > RECORD_BYTES:
            yield _joined(run)
            run, size = [], 0
        if len(view) >= RECORD_BYTES:
            yield view
        else:
            run.append(view)
            size += len(view)
    if run:
        yield _joined(run)


def _joined(run: list[memoryview]) -> memoryview:
    return run[0] if len(run) == 1 else memoryview(b"".join(run))


def _untrusted(error: ssl.SSLError) -> StreamUntrustedError:
    """What a failed handshake means, and what to do about it."""
    reason = reason_of(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return StreamUntrustedError(
            "certificate",
            f"the peer's certificate is refused: {error.verify_message}; see TlsConfig.ca",
        )
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        return StreamUntrustedError(
            "certificate", f"{reason}: both sides show one that the other's TlsConfig.ca trusts"
        )
    return StreamUntrustedError(
        "tls", f"no handshake of TLS 1.3 ({reason}): set ShuffleConfig.tls on both sides"
    )


def _broken(error: ssl.SSLError) -> StreamBrokenError:
    """What a failure after the handshake means: an alert, or bytes that are not what was sent."""
    reason = reason_of(error)
    if "ALERT" in reason:
        return StreamBrokenError(f"the peer refused this side's certificate or TLS: {reason}")
    return StreamBrokenError(f"what arrived is not what the peer encrypted: {reason}")
