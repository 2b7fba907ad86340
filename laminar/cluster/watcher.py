"""The iterator behind ``ClusterKv.watch``, for implementations that hear of changes."""

from __future__ import annotations

from typing import Self

import anyio
from anyio.lowlevel import checkpoint

from laminar.cluster.kv import KvEvent
from laminar.cluster.watch import WatchQueue
from laminar.errors import ClosedError
from laminar.model import NodeId


class Watcher:
    """Tells its reader the latest state of each key that starts with ``prefix``.

    All calls come from one event loop.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._queue = WatchQueue()
        self._closed = False
        self._wake: anyio.Event | None = None

    def changed(self, node: NodeId, key: str, value: str | None) -> None:
        """Note that ``key`` of ``node`` now holds ``value``, or is gone when that is ``None``."""
        if key.startswith(self._prefix) and self._queue.changed(node, key, value):
            self._wake_readers()

    def close(self) -> None:
        """End the iterator: whoever reads it gets :class:`~laminar.errors.ClosedError`."""
        self._closed = True
        self._wake_readers()

    def _wake_readers(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def __aiter__(self) -> Self:
        """An iterator is its own."""
        return self

    async def __anext__(self) -> KvEvent:
        """Wait for the next change. A cancelled call loses none."""
        # So nothing is awaited between taking an event and returning it.
        await checkpoint()
        while True:
            if self._closed:
                raise ClosedError("this KV watch is read after its `async with` block")
            event = self._queue.take()
            if event is not None:
                return event
            if self._wake is None:
                self._wake = anyio.Event()
            await self._wake.wait()
