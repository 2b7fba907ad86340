"""TCP on raw non-blocking sockets: no copy on either way, on every event loop.

Each call tries the system call first and waits for readiness only when it would block;
``sendmsg`` takes the Arrow buffers as they lie in memory, ``recv_into`` fills the frame's own
buffer. The transports of asyncio would copy both ways.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import anyio
from anyio.lowlevel import checkpoint

from laminar.errors import StreamBrokenError, StreamClosedError
from laminar.net.address import format_addr, parse_addr
from laminar.net.stream import SendBuffer

IOV_MAX = 1024
"""Most buffers that one ``sendmsg`` takes on Linux and macOS."""

BACKLOG = 1024

CALLS_BEFORE_YIELD = 16
"""System calls in a row that never blocked before the event loop gets a turn."""


class TcpStream:
    """A :class:`~laminar.net.stream.ByteStream` over a connected TCP socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._closed = False
        self._calls = 0

    async def send_vectored(self, buffers: Sequence[SendBuffer]) -> None:
        pending: Sequence[SendBuffer] = buffers
        while pending:
            batch = pending[:IOV_MAX]
            try:
                sent = self._socket.sendmsg(batch)
            except BlockingIOError:
                await self._wait_writable()
                continue
            except OSError as error:
                raise self._translate(error) from error
            rest = _unsent(batch, sent)
            if len(pending) > IOV_MAX:
                rest.extend(pending[IOV_MAX:])
            pending = rest
            await self._breathe()

    async def receive_into(self, buffer: memoryview) -> int:
        await self._breathe()  # not later: what was received must not be lost to a cancellation
        while True:
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                await self._wait_readable()
                continue
            except OSError as error:
                raise self._translate(error) from error
            return count

    async def send_eof(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._translate(error) from error

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()

    async def _wait_readable(self) -> None:
        self._calls = 0
        try:
            await anyio.wait_readable(self._socket)
        except (OSError, ValueError, anyio.ClosedResourceError) as error:
            raise self._translate(error) from error

    async def _wait_writable(self) -> None:
        self._calls = 0
        try:
            await anyio.wait_writable(self._socket)
        except (OSError, ValueError, anyio.ClosedResourceError) as error:
            raise self._translate(error) from error

    async def _breathe(self) -> None:
        """Let other tasks run now and then although the socket never made us wait."""
        self._calls += 1
        if self._calls >= CALLS_BEFORE_YIELD:
            self._calls = 0
            await checkpoint()

    def _translate(self, error: Exception) -> StreamBrokenError | StreamClosedError:
        if self._closed:
            return StreamClosedError("the connection was closed on this side")
        return StreamBrokenError(f"the connection broke: {error}")


def _unsent(buffers: Sequence[SendBuffer], sent: int) -> list[SendBuffer]:
    """What remains of ``buffers`` after their first ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        size = len(buffer)
        if sent < size:
            return [memoryview(buffer).cast("B")[sent:], *buffers[index + 1 :]]
        sent -= size
    return []


class TcpListener:
    """A :class:`~laminar.net.stream.Listener` on a TCP port."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._closed = False
        host, port = sock.getsockname()[:2]
        self._local_addr = format_addr(host, port)

    @property
    def local_addr(self) -> str:
        return self._local_addr

    async def accept(self) -> TcpStream:
        while True:
            try:
                sock, _ = self._socket.accept()
            except BlockingIOError:
                await self._wait()
                continue
            except OSError as error:
                raise self._translate(error) from error
            try:
                return TcpStream(sock)
            except OSError as error:
                sock.close()
                raise StreamBrokenError(f"an accepted connection broke: {error}") from error

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()

    async def _wait(self) -> None:
        try:
            await anyio.wait_readable(self._socket)
        except (OSError, ValueError, anyio.ClosedResourceError) as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> StreamBrokenError | StreamClosedError:
        if self._closed:
            return StreamClosedError(f"the listener at {self._local_addr} was closed")
        return StreamBrokenError(f"accepting at {self._local_addr} failed: {error}")


class TcpNetwork:
    """A :class:`~laminar.net.stream.Network` of TCP streams."""

    async def connect(self, addr: str) -> TcpStream:
        """Try each address the name resolves to; raise ``StreamBrokenError`` with the last."""
        failure: Exception | None = None
        for family, kind, protocol, _, target in await _resolve(addr):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                failure = error
                continue
            try:
                await _connect(sock, target)
                return TcpStream(sock)
            except OSError as error:
                failure = error
                sock.close()
            except BaseException:
                sock.close()
                raise
        raise StreamBrokenError(f"cannot connect to {addr}: {failure}") from failure

    async def listen(self, addr: str) -> TcpListener:
        """Listen at the first address the name resolves to.

        Raises :class:`~laminar.errors.StreamBrokenError` when it cannot be bound.
        """
        return TcpListener(await listening_socket(addr))


async def listening_socket(addr: str) -> socket.socket:
    """A socket that listens at the first address the name resolves to.

    Raises :class:`~laminar.errors.StreamBrokenError` when it cannot be bound.
    """
    family, kind, protocol, _, target = (await _resolve(addr))[0]
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StreamBrokenError(f"cannot listen at {addr}: {error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StreamBrokenError(f"cannot listen at {addr}: {error}") from error
    return sock


async def _resolve(
    addr: str,
) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
    host, port = parse_addr(addr)
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StreamBrokenError(f"cannot resolve {addr}: {error}") from error
    return found


async def _connect(sock: socket.socket, target: tuple[str, int]) -> None:
    sock.setblocking(False)
    code = sock.connect_ex(target)
    if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        await anyio.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code != 0:
        raise OSError(code, errno.errorcode.get(code, "connect failed"))
