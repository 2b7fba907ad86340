"""A blocking sendall/recv_into loop: the same bytes, ready-made, and nothing done with them."""

from __future__ import annotations

import socket
import time

from benchmarks.child import Link
from benchmarks.workload import stream_batches


def stream_receiver(link: Link, *, rows: int, warm: int, count: int) -> None:
    """Receive ``warm`` and then ``count`` encoded batches into one buffer that is used again."""
    size = stream_batches(rows)[0].serialize().size
    into = memoryview(bytearray(size))
    with socket.create_server(("127.0.0.1", 0)) as server:
        link.report(address=server.getsockname()[1])
        connection, _ = server.accept()
    with connection:
        _receive(connection, into, warm)
        link.report(warm=True)
        _receive(connection, into, count)
        link.report(ended=time.monotonic())


def _receive(connection: socket.socket, into: memoryview, count: int) -> None:
    for _ in range(count):
        filled = 0
        while filled < len(into):
            filled += connection.recv_into(into[filled:])


def stream_sender(link: Link, *, address: int, rows: int, warm: int, count: int) -> None:
    """Send ``warm`` and, when told, ``count`` batches that were encoded beforehand."""
    encoded = [batch.serialize().to_pybytes() for batch in stream_batches(rows)]
    with socket.create_connection(("127.0.0.1", address)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for turn in range(warm):
            connection.sendall(encoded[turn % len(encoded)])
        link.report(ready=True)
        link.heard()
        link.report(started=time.monotonic())
        for turn in range(count):
            connection.sendall(encoded[turn % len(encoded)])
        link.heard()
