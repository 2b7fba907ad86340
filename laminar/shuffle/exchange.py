"""``Exchange``: an operator's view of the fabric."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Protocol, Self

import anyio
import pyarrow as pa

from laminar.errors import LaminarError, NoCreditError, PeerLostError, UnknownPeerError
from laminar.model import CheckpointBarrier, NodeId, node_id
from laminar.shuffle.arrow import ArrowData, batches_of
from laminar.shuffle.fanout import collect, raise_failures
from laminar.shuffle.inbox import Envelope
from laminar.shuffle.local import LocalLane
from laminar.shuffle.messages import Barrier, ChannelMessage, Close, Data, End, Watermark
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender


class Partitioner(Protocol):
    """Decides which node each row goes to."""

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The nodes that rows are sent to."""

    def split(self, batch: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
        """The non-empty parts of ``batch``, each with the index of its node."""


class Exchange:
    """Repartitions the batches of one operator over ``partitioner.nodes``.

    Every node of the exchange makes one of the same ``name``, which is its channel; sender and
    receiver of a node have the same id. Rows of the own node never touch a socket.
    ``inputs`` are the nodes that send; by default all of the partitioner's.

    Send in one task and iterate in another: the windows are bounded, so a node that does not
    take what it is sent holds up those who send.
    """

    def __init__(
        self,
        name: str,
        *,
        sender: ShuffleSender,
        receiver: ShuffleReceiver,
        partitioner: Partitioner,
        inputs: Iterable[str] | None = None,
    ) -> None:
        self.name = name
        self._sender = sender
        self._inbox = receiver.channel(name)
        self._partitioner = partitioner
        self._local = LocalLane(sender.local_id, self._inbox, sender.config.window_bytes)
        sources = partitioner.nodes if inputs is None else inputs
        self._inputs = {node_id(node) for node in sources}
        self._unopened = [node for node in partitioner.nodes if node != sender.local_id]
        self._inbox.expected |= self._inputs - {sender.local_id}

    # -- sending -------------------------------------------------------------------------

    async def send(self, data: ArrowData) -> None:
        """Partition ``data`` and send each part to its node.

        Parts for which there is room go at once; the call then waits for the others, all at
        the same time. Raises what :meth:`ShuffleSender.send_to` raises, and
        :class:`~laminar.errors.UnsupportedKeyError`.
        """
        for batch in batches_of(data):
            parts = self._partitioner.split(batch)
            await self._send_all(
                [(self._partitioner.nodes[index], Data(part, self.name)) for index, part in parts]
            )

    async def watermark(self, timestamp: int) -> None:
        """Tell every node that no row below ``timestamp`` follows from here."""
        await self._broadcast(Watermark(timestamp, self.name))

    async def barrier(self, barrier: CheckpointBarrier) -> None:
        """Send ``barrier`` to every node, behind the rows sent before."""
        await self._broadcast(Barrier(barrier, self.name))

    async def end(self) -> None:
        """Tell every node that nothing follows from here."""
        await self._broadcast(End(self.name))

    async def _broadcast(self, message: ChannelMessage) -> None:
        await self._send_all([(node, message) for node in self._partitioner.nodes])

    async def _send_all(self, messages: list[tuple[NodeId, ChannelMessage]]) -> None:
        """Send each message to its node. All are tried, whatever becomes of the others."""
        failures: dict[NodeId, LaminarError] = {}
        if self._unopened:
            await self._open(failures)
        waiting: list[tuple[NodeId, ChannelMessage]] = []
        for node, message in messages:
            if node in failures:
                continue
            try:
                if not self._offer(node, message):
                    waiting.append((node, message))
            except LaminarError as error:
                failures[node] = error
        if waiting:
            async with anyio.create_task_group() as tasks:
                for node, message in waiting:
                    tasks.start_soon(collect, failures, node, partial(self._send_to, node, message))
        raise_failures(f"exchange {self.name!r}", failures)

    def _offer(self, node: NodeId, message: ChannelMessage) -> bool:
        if node == self._sender.local_id:
            return self._local.offer(message)
        try:
            self._sender.try_send(node, message)
        except (NoCreditError, UnknownPeerError):
            return False  # wait for room, or for the KV to find it
        return True

    async def _send_to(self, node: NodeId, message: ChannelMessage) -> None:
        if node == self._sender.local_id:
            await self._local.send(message)
        else:
            await self._sender.send_to(node, message)

    async def _open(self, failures: dict[NodeId, LaminarError]) -> None:
        """Open the channel to every node, so that all of them wait for its end."""
        for node in list(self._unopened):
            await collect(failures, node, partial(self._sender.open_channel, node, self.name))
            if node not in failures:
                self._unopened.remove(node)

    # -- receiving -----------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Envelope:
        """The next message for this node, with the node it came from; stops after all ended.

        An ``End`` of one input is delivered like any other message. Raises
        :class:`~laminar.errors.PeerLostError` when a node leaves before its end.
        """
        if not self._inputs:
            raise StopAsyncIteration
        peer, message = await self._inbox.recv()
        if isinstance(message, End):
            self._inputs.discard(peer)
            self._inbox.expected.discard(peer)
        elif isinstance(message, Close):
            raise PeerLostError(
                f"peer {peer} left before the end of {self.name!r}: {message.reason}"
            )
        return peer, message
