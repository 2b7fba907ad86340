"""The driver of :mod:`laminar.shuffle.keepalive`: one task beside each connection."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from laminar.config import ShuffleConfig
from laminar.errors import StreamBrokenError, StreamError
from laminar.net.stream import ByteStream
from laminar.shuffle.keepalive import Keepalive, Verdict


class Vigil:
    """Watches over one connection; :meth:`keep` runs while it lasts."""

    def __init__(self, stream: ByteStream, config: ShuffleConfig, ping: Callable[[], None]) -> None:
        self._stream = stream
        self._ping = ping
        self._timeout_s = config.keepalive_timeout_s
        self._keepalive = Keepalive(
            config.keepalive_interval_s, config.keepalive_timeout_s, anyio.current_time()
        )

    def heard(self) -> None:
        """Something arrived."""
        self._keepalive.heard = True

    def heard_at(self, now: float) -> float:
        """When something last arrived; see :meth:`Keepalive.heard_at`."""
        return self._keepalive.heard_at(now)

    async def keep(self) -> None:
        """Ping when it is silent; close the stream when it is dead, and return."""
        while True:
            await anyio.sleep(self._keepalive.interval_s)
            verdict = self._keepalive.look(anyio.current_time())
            if verdict is Verdict.PING:
                self._ping()
            elif verdict is Verdict.DEAD:
                self._stream.close()  # the reader hears of it, and ends the connection
                return

    def cause(self, error: StreamError) -> StreamError:
        """Why the connection ended: ``error``, unless it was closed here for its silence."""
        if not self._keepalive.dead:
            return error
        return StreamBrokenError(f"nothing was heard for {self._timeout_s:g} s")

    @property
    def dead(self) -> bool:
        """Whether the connection was given up for its silence."""
        return self._keepalive.dead
