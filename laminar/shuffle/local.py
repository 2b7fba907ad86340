"""Messages from a node to itself: they never touch a socket, and are bounded all the same."""

from __future__ import annotations

from typing import Protocol

import anyio

from laminar.model import NodeId
from laminar.shuffle.arrow import size_of
from laminar.shuffle.messages import ChannelMessage, Data


class LocalInbox(Protocol):
    """The part of an inbox that a lane needs."""

    def put_local(self, lane: LocalLane, message: ChannelMessage) -> None:
        """Queue ``message``; :meth:`LocalLane.take` is called when the consumer takes it."""


class LocalLane:
    """A bounded way into an inbox of this process, first come first served."""

    def __init__(self, node: NodeId, inbox: LocalInbox, window_bytes: int) -> None:
        self.node = node
        self._inbox = inbox
        self._window_bytes = window_bytes
        self._held_bytes = 0
        self._waiting = 0
        self._turn = anyio.Lock()
        self._room = anyio.Event()

    def offer(self, message: ChannelMessage) -> bool:
        """Hand ``message`` over, if the window has room for it and nobody waits."""
        return not self._waiting and self._hand_over(message)

    async def send(self, message: ChannelMessage) -> None:
        """Hand ``message`` over, waiting for room behind those who came before."""
        self._waiting += 1
        try:
            async with self._turn:
                while not self._hand_over(message):
                    self._room = anyio.Event()
                    await self._room.wait()
        finally:
            self._waiting -= 1

    def take(self, message: ChannelMessage) -> None:
        """The consumer has taken ``message``, the oldest one."""
        self._held_bytes -= _size(message)
        self._room.set()

    def _hand_over(self, message: ChannelMessage) -> bool:
        size = _size(message)
        if self._held_bytes and self._held_bytes + size > self._window_bytes:
            return False
        self._held_bytes += size
        self._inbox.put_local(self, message)
        return True


def _size(message: ChannelMessage) -> int:
    return size_of(message.batch) if isinstance(message, Data) else 64
