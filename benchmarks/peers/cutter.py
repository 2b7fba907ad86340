"""A middle man for TCP connections that kills every one of them after a random number of bytes."""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
from contextlib import ExitStack, suppress

from benchmarks.child import Link

PIECE_BYTES = 256 * 1024
GREETING_BYTES = 200
"""A cut after less than this many bytes hits the handshake."""
HANDSHAKE_SHARE = 0.05
"""Of the connections, how many are cut that early."""
RESET_SHARE = 0.5
"""Of the cuts, how many are resets; the others look like an orderly end of both directions."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cutter:
    """Listens for connections to ``target`` and kills each, while it is told to.

    ``seed`` decides when. Bytes count towards the target; those after the cut are lost.
    """

    def __init__(self, target: tuple[str, int], seed: int) -> None:
        self.cuts = 0
        self.bytes_between: float | None = None
        """Mean number of bytes that a connection lives; ``None``: it lives."""
        self._target = target
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where to connect instead of the target."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with ExitStack() as stack:
            stack.enter_context(near)
            far = stack.enter_context(socket.create_connection(self._target))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A connection that ended in any other way was not cut here.
            with suppress(OSError):
                if self._forward(near, far):
                    self._cut(near, far)

    def _forward(self, near: socket.socket, far: socket.socket) -> bool:
        """Copy both ways; ``True`` when it is time for the cut, ``False`` when it is over.

        One thread does both directions. It cannot get stuck: both ends always read.
        """
        life, left = self.bytes_between, self._lifetime()
        into = memoryview(bytearray(PIECE_BYTES))
        open_ends = [near, far]
        while open_ends:
            for source in select.select(open_ends, [], [])[0]:
                sink = far if source is near else near
                count = source.recv_into(into)
                if count == 0:
                    sink.shutdown(socket.SHUT_WR)
                    open_ends.remove(source)
                    continue
                if life != self.bytes_between:  # told otherwise since
                    life, left = self.bytes_between, self._lifetime()
                if source is far or left is None:
                    sink.sendall(into[:count])
                    continue
                sink.sendall(into[: min(count, left)])
                left -= count
                if left <= 0:
                    return True
        return False

    def _lifetime(self) -> int | None:
        with self._lock:
            if self.bytes_between is None:
                return None
            if self._rng.random() < HANDSHAKE_SHARE:
                return self._rng.randint(1, GREETING_BYTES)
            return self._rng.randint(1, round(2 * self.bytes_between))

    def _cut(self, near: socket.socket, far: socket.socket) -> None:
        with self._lock:
            self.cuts += 1
            reset = self._rng.random() < RESET_SHARE
        for end in (near, far):
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            else:
                end.shutdown(socket.SHUT_WR)
            end.close()


def proxies(link: Link, *, targets: list[str], seed: int) -> None:
    """One cutter before each target; told how long connections live, tells how many it cut."""
    cutters = []
    for number, target in enumerate(targets):
        host, port = target.rsplit(":", 1)
        cutters.append(Cutter((host, int(port)), seed + number))
    link.report(addresses=[cutter.address for cutter in cutters])
    while order := link.heard():
        link.report(cuts=[cutter.cuts for cutter in cutters])
        for cutter in cutters:
            cutter.cuts = 0
            cutter.bytes_between = order["bytes_between"]
