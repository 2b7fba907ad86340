"""``Exchange``: an operator's view of the fabric."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Self

import anyio
import pyarrow as pa

from laminar.errors import (
    ConfigError,
    LaminarError,
    NoCreditError,
    PeerLostError,
    RemoteError,
    UnknownPeerError,
)
from laminar.model import CheckpointBarrier, CheckpointId, NodeId, node_id
from laminar.shuffle.aligner import Aligned, BarrierAligner
from laminar.shuffle.arrow import ArrowData, batches_of
from laminar.shuffle.fanout import collect, raise_failures
from laminar.shuffle.inbox import Item, label, opens_again
from laminar.shuffle.ipc_limits import check_carried
from laminar.shuffle.local import LocalLane
from laminar.shuffle.messages import (
    Barrier,
    ChannelMessage,
    Close,
    Data,
    End,
    SchemaChanged,
    Watermark,
)
from laminar.shuffle.partition import Partitioner
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.schema_watch import SchemaWatch
from laminar.shuffle.sender import ShuffleSender
from laminar.shuffle.shared import Sendable, SharedData, SharedStream
from laminar.shuffle.statistics import AlignmentStatistics
from laminar.shuffle.trim import unpin


class Exchange:
    """Repartitions the batches of one operator over ``partitioner.nodes``.

    Every node of the exchange makes one of the same ``name``, which is its channel; sender and
    receiver of a node have the same id. Rows of the own node never touch a socket.
    ``inputs`` are the nodes that send; by default all of the partitioner's. What they send
    comes out aligned: see :meth:`__anext__` and ``docs/design/alignment.md``. Raises
    :class:`~laminar.errors.ConfigError` when ``receiver`` has another one of this name.

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
        self._inbox.reserve(f"exchange {name!r}")
        self._partitioner = partitioner
        self._local = LocalLane(sender.local_id, name, self._inbox, sender.config)
        self._shared = SharedStream(name, sender.config)
        self._watch = SchemaWatch(name, sender.config.schema_change)
        sources = partitioner.nodes if inputs is None else inputs
        self._aligner: BarrierAligner[Item] = BarrierAligner(sources, name)
        self._events: deque[Aligned] = deque()
        """What has come out and was not delivered yet."""
        self._opened: tuple[NodeId, Item] | None = None
        """What is consumed, but has another message to tell."""
        self._stranger_told = False
        self._unopened = [node for node in partitioner.nodes if node != sender.local_id]
        self._inbox.expected |= self._aligner.inputs - {sender.local_id}

    # -- sending -------------------------------------------------------------------------

    async def send(self, data: ArrowData) -> None:
        """Partition ``data`` and send each part to its node.

        Parts for which there is room go at once; the call then waits for the others, all at
        the same time. Raises what :meth:`ShuffleSender.send_to` raises, and
        :class:`~laminar.errors.UnsupportedKeyError`. When the schema is to blame, no node gets
        anything of the batch.
        """
        for batch in batches_of(data):
            await self._send_all(self._messages(batch))

    def _messages(self, batch: pa.RecordBatch) -> list[tuple[NodeId, Sendable]]:
        """The parts of ``batch``, each as a message for its node."""
        nodes, local = self._partitioner.nodes, self._sender.local_id
        self._watch.check(batch.schema)
        parts = [(nodes[index], part) for index, part in self._partitioner.split(batch)]
        remote = [part for node, part in parts if node != local]
        if remote:
            check_carried(batch.schema)
        self._watch.note(batch.schema)
        # What all get is encoded once for all.
        shared = len(remote) > 1 and all(part is remote[0] for part in remote)
        same = self._shared.encode(remote[0]) if shared else None
        return [
            (node, Data(unpin(part), self.name) if node == local else same or Data(part, self.name))
            for node, part in parts
        ]

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

    async def _send_all(self, messages: Sequence[tuple[NodeId, Sendable]]) -> None:
        """Send each message to its node. All are tried, whatever becomes of the others."""
        failures: dict[NodeId, LaminarError] = {}
        if self._unopened:
            await self._open(failures)
        waiting: list[tuple[NodeId, Sendable]] = []
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
        for node, failure in failures.items():
            if isinstance(failure, RemoteError):
                self._open_again(node)
        raise_failures(f"exchange {self.name!r}", failures)

    def _offer(self, node: NodeId, message: Sendable) -> bool:
        if not isinstance(message, SharedData) and node == self._sender.local_id:
            return self._local.offer(message)
        try:
            self._sender.try_send(node, message)
        except (NoCreditError, UnknownPeerError):
            return False  # wait for room, or for the KV to find it
        return True

    async def _send_to(self, node: NodeId, message: Sendable) -> None:
        if not isinstance(message, SharedData) and node == self._sender.local_id:
            await self._local.send(message)
        else:
            await self._sender.send_to(node, message)

    async def _open(self, failures: dict[NodeId, LaminarError]) -> None:
        """Open the channel to every node, so that all of them wait for its end."""
        for node in list(self._unopened):
            await collect(failures, node, partial(self._sender.open_channel, node, self.name))
            if node not in failures:
                self._unopened.remove(node)

    def _open_again(self, node: NodeId) -> None:
        """The next life of ``node`` has to know of the channel before anything is sent on it."""
        if node in self._partitioner.nodes and node not in self._unopened:
            self._unopened.append(node)

    # -- receiving -----------------------------------------------------------------------

    def abort(self, checkpoint_id: int) -> None:
        """Stop aligning ``checkpoint_id`` at this node; its barriers are dropped from now on.

        The inputs that have delivered it go on. Nothing happens when it is over already.
        """
        self._events += self._aligner.abort(CheckpointId(checkpoint_id), anyio.current_time())
        self._inbox.wake()

    def readmit(self, peer: str) -> None:
        """Make ``peer``, an input that was lost, restarted or ended, an input again.

        What its new life has sent was kept from its first message on, within its window, and
        comes out now; what it will send does too. It may come back before this call or after
        it: barriers and watermarks wait for it from now on, as they did in the beginning. Only
        the checkpoint that is being aligned does not, and nothing of the new life comes out
        before that one is over. See ``docs/design/alignment.md`` for what that means to
        snapshots. Nothing happens to one that is an input now: if it is about to be lost, that
        is told first.

        Raises :class:`~laminar.errors.ConfigError` for a node that is not among the inputs, or
        this one itself.
        """
        node = self._check_remote(peer)
        self._aligner.readmit(node)
        self._inbox.expected.add(node)
        self._open_again(node)
        self._inbox.wake()

    def dismiss(self, peer: str) -> None:
        """Neither wait for ``peer`` nor let anything of it through, until it is readmitted.

        What comes of it is dropped and counted as ``departed``. Raises
        :class:`~laminar.errors.ConfigError` as :meth:`readmit` does.
        """
        node = self._check_remote(peer)
        events, refused = self._aligner.dismiss(node, anyio.current_time())
        self._events += events
        if self._opened is not None and self._opened[0] == node:
            refused.insert(0, self._opened[1])
            self._opened = None
        for item in refused:
            self._refuse(item)
        self._inbox.expected.discard(node)
        self._inbox.wake()

    def _check_remote(self, peer: str) -> NodeId:
        node = node_id(peer)
        if node == self._sender.local_id:
            raise ConfigError(f"{node} is this node itself, which never leaves {self.name!r}")
        return node

    def statistics(self) -> AlignmentStatistics:
        """A snapshot of the inputs and the checkpoints among them."""
        return self._aligner.statistics(anyio.current_time())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Aligned:
        """The next message for this node, aligned; stops when no input is left.

        That is ``(peer, Data)``, ``(peer, SchemaChanged)`` and ``(peer, End)`` of each input,
        and for all inputs together
        ``(None, Barrier)`` once per checkpoint, when all of them have delivered it and nothing
        behind it has come out; ``(None, Watermark)``, the minimum over them, when it grows; and
        ``(None, Superseded)`` when a checkpoint was given up half-way.

        Raises :class:`~laminar.errors.PeerLostError` or
        :class:`~laminar.errors.PeerRestartedError`, once, behind everything that came of an
        input which is gone before its end. From then on it is no input any more: iterating
        further goes on without it, unless it is taken back with :meth:`readmit`. Raises
        :class:`~laminar.errors.ConfigError`, once, when somebody sends who is not among the
        inputs; that is dropped and counted.
        """
        while True:
            if self._events:
                return self._events.popleft()
            turn, self._opened = self._opened or self._aligner.take(), None
            if turn is None:
                if self._aligner.done:
                    raise StopAsyncIteration
                await self._fetch()
                continue
            event = self._consume(*turn)
            if self._inbox.credit_due:
                await self._inbox.let_credit_out()
            if event is not None:
                return event

    async def _fetch(self) -> None:
        """Hand what arrived to the aligner; wait when there is nothing."""
        item = self._inbox.fetch()
        if item is None:
            await self._inbox.wait()
            return
        about = label(item)
        if self._aligner.put(about.peer, item, about.size, last=about.last):
            return
        sent = self._refuse(item)
        if sent and about.peer not in self._aligner.inputs and not self._stranger_told:
            self._stranger_told = True
            raise ConfigError(
                f"peer {about.peer} sends on {self.name!r} but is not among the inputs there: "
                "give every node of an exchange the same nodes, or name it in inputs"
            )

    def _refuse(self, item: Item) -> bool:
        """Consume ``item`` without a word; whether it is something that was sent."""
        with suppress(RemoteError):  # of somebody who is no input (any more)
            envelope = self._inbox.open(item)
            while envelope is not None and opens_again(item, envelope):
                envelope = self._inbox.open(item)
            return envelope is not None and not isinstance(envelope[1], Close)
        return False

    def _consume(self, peer: NodeId, item: Item) -> Aligned | None:
        """What comes out now that ``item`` is consumed; more may be left in ``_events``."""
        try:
            envelope = self._inbox.open(item)
            if envelope is None:
                return None
            if opens_again(item, envelope):
                self._opened = peer, item  # the batch behind the news comes next
            message = envelope[1]
            if isinstance(message, Close):
                raise PeerLostError(
                    f"peer {peer} left before the end of {self.name!r}: {message.reason}",
                    peer=peer,
                )
        except RemoteError:
            self._events += self._aligner.leave(peer, anyio.current_time())
            self._wake_when_done()
            raise
        if isinstance(message, Data | SchemaChanged):
            return peer, message
        self._events += self._aligner.process(peer, message, anyio.current_time())
        if isinstance(message, End):
            self._inbox.expected.discard(peer)
            self._wake_when_done()
        return None

    def _wake_when_done(self) -> None:
        if self._aligner.done:
            self._inbox.wake()  # whoever else iterates
