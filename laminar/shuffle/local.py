"""Messages from a node to itself: they never touch a socket, and are bounded all the same."""

from __future__ import annotations

from typing import Protocol

import anyio

from laminar.config import ShuffleConfig
from laminar.errors import ChannelEndedError
from laminar.model import NodeId
from laminar.shuffle.arrow import size_of
from laminar.shuffle.messages import ChannelMessage, Data, End, SchemaChanged
from laminar.shuffle.schema_watch import SchemaWatch


class LocalInbox(Protocol):
    """The part of an inbox that a lane needs."""

    def put_local(
        self, lane: LocalLane, message: ChannelMessage | SchemaChanged, size: int
    ) -> None:
        """Queue ``message``; the consumer takes it with :meth:`LocalLane.take`, of ``size``."""


class LocalLane:
    """A bounded way into an inbox of this process, first come first served.

    As on the wire, data is bounded by ``window_bytes`` and what has no size, such as a barrier,
    by ``control_frames``: so a barrier never waits for the rows before it to be consumed.
    """

    def __init__(
        self, node: NodeId, channel: str, inbox: LocalInbox, config: ShuffleConfig
    ) -> None:
        self.node = node
        self._channel = channel
        self._inbox = inbox
        self._window_bytes = config.window_bytes
        self._control_frames = config.control_frames_max
        self._watch = SchemaWatch(channel, config.schema_change)
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
        """Queue ``message`` if there is room.

        Raises :class:`~laminar.errors.SchemaError` for a change of schema that is refused.
        """
        if self._ended:
            raise ChannelEndedError(
                f"channel {message.channel!r} was ended; nothing follows an End"
            )
        if isinstance(message, Data):
            return self._hand_over_data(message)
        return self._put(message, 0)

    def _hand_over_data(self, data: Data) -> bool:
        size = size_of(data.batch)
        changed = self._watch.check(data.batch.schema)
        if self._held_bytes and self._held_bytes + size > self._window_bytes:
            return False
        if changed and not self._put(SchemaChanged(data.batch.schema, self._channel), 0):
            return False
        self._watch.note(data.batch.schema)
        return self._put(data, size)

    def _put(self, message: ChannelMessage | SchemaChanged, size: int) -> bool:
        if size:
            self._held_bytes += size
        elif self._held_control < self._control_frames:
            self._held_control += 1
        else:
            return False
        self._ended = isinstance(message, End)
        self._inbox.put_local(self, message, size)
        return True
