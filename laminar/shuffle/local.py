"""Messages from a node to itself: they never touch a socket, and are bounded all the same."""

from __future__ import annotations

from typing import Protocol

import anyio

from laminar.errors import ChannelEndedError
from laminar.model import NodeId
from laminar.shuffle.arrow import size_of
from laminar.shuffle.messages import ChannelMessage, Data, End


class LocalInbox(Protocol):
    """The part of an inbox that a lane needs."""

    def put_local(self, lane: LocalLane, message: ChannelMessage, size: int) -> None:
        """Queue ``message``; the consumer takes it with :meth:`LocalLane.take`, of ``size``."""


class LocalLane:
    """A bounded way into an inbox of this process, first come first served.

    As on the wire, data is bounded by ``window_bytes`` and what has no size, such as a barrier,
    by ``control_frames``: so a barrier never waits for the rows before it to be consumed.
    """

    def __init__(
        self, node: NodeId, inbox: LocalInbox, window_bytes: int, control_frames: int
    ) -> None:
        self.node = node
        self._inbox = inbox
        self._window_bytes = window_bytes
        self._control_frames = control_frames
        self._held_bytes = 0
        self._held_control = 0
        self._waiting = 0
        self._ended = False
        self._turn = anyio.Lock()
        self._room = anyio.Event()

    def offer(self, message: ChannelMessage) -> bool:
        """Hand ``message`` over, if there is room for it and nobody waits.

        Raises :class:`~laminar.errors.ChannelEndedError` when an ``End`` came before it.
        """
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

    def take(self, size: int) -> None:
        """The consumer has taken the oldest message, which is of ``size`` bytes."""
        if size:
            self._held_bytes -= size
        else:
            self._held_control -= 1
        self._room.set()

    def _hand_over(self, message: ChannelMessage) -> bool:
        if self._ended:
            raise ChannelEndedError(
                f"channel {message.channel!r} was ended; nothing follows an End"
            )
        size = size_of(message.batch) if isinstance(message, Data) else 0
        if size:
            if self._held_bytes and self._held_bytes + size > self._window_bytes:
                return False
            self._held_bytes += size
        else:
            if self._held_control >= self._control_frames:
                return False
            self._held_control += 1
        self._ended = isinstance(message, End)
        self._inbox.put_local(self, message, size)
        return True
