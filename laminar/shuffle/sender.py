"""``ShuffleSender``: the sending end of the fabric."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Self

import anyio
import pyarrow as pa
from anyio.abc import TaskGroup

from laminar.cluster.keyring import Keyring
from laminar.cluster.kv import SHUFFLE_ADDR_KEY, ClusterKv
from laminar.config import ShuffleConfig
from laminar.errors import (
    ClosedError,
    ConfigError,
    FanOutError,
    LaminarError,
    NoCreditError,
    PeerLostError,
    StreamBrokenError,
    UnknownPeerError,
)
from laminar.model import CheckpointBarrier, Incarnation, NodeId, node_id
from laminar.net.address import parse_addr
from laminar.net.stream import Network
from laminar.net.tasks import leave
from laminar.net.tcp import TcpNetwork
from laminar.net.tls import TlsNetwork
from laminar.shuffle.arrow import single_batch
from laminar.shuffle.authentication import keyring_of
from laminar.shuffle.fanout import collect, raise_failures
from laminar.shuffle.link import Link
from laminar.shuffle.liveness import PeerBoard, PeerEvent
from laminar.shuffle.messages import DEFAULT_CHANNEL, Barrier, Data
from laminar.shuffle.outbound import OutboundSession
from laminar.shuffle.shared import Sendable, check_message
from laminar.shuffle.statistics import LinkStatistics, SenderStatistics


class ShuffleSender:
    """Sends batches, barriers and watermarks to peers, over one lazy connection to each.

    An async context manager: its connections live in its block. Leaving it waits, at most
    ``close_timeout_s``, until the peers have received what was sent.

    ``kv`` finds peers that nobody registered, and beats the registered address at every
    dial. ``keyring``, in place of ``config.keys``, is one that others share; when it changes,
    the next connection is made with what it is then. ``network``, ``rng`` and ``incarnation``
    are there to be replaced in tests; with ``config.tls``, whose files are read at once, the
    network's streams are encrypted.
    """

    def __init__(
        self,
        local_id: str,
        *,
        kv: ClusterKv | None = None,
        config: ShuffleConfig | None = None,
        keyring: Keyring | None = None,
        network: Network | None = None,
        rng: random.Random | None = None,
        incarnation: int | None = None,
    ) -> None:
        self.local_id = node_id(local_id)
        self.config = config or ShuffleConfig()
        self._keyring = keyring_of(self.config, keyring)
        self._kv = kv
        self._network: Network = network or TcpNetwork()
        self._tls: TlsNetwork | None = None
        if self.config.tls is not None:
            self._network = self._tls = TlsNetwork(self._network, self.config.tls)
        self._rng = rng or secrets.SystemRandom()
        self._incarnation = time.time_ns() if incarnation is None else incarnation
        self._addresses: dict[NodeId, str] = {}
        self._links: dict[str, Link] = {}
        self._failed: dict[str, Link] = {}
        """Links that gave up, until all who use them have been told why, or another one begins."""
        self._board = PeerBoard(self.config.peers_max)
        self._tasks: TaskGroup | None = None
        self._closed = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise ClosedError("a ShuffleSender is entered only once")
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failures: dict[str, LaminarError] = {}
        try:
            if exc_type is None:
                failures = await self._drain()
        finally:  # also when that is cancelled
            self._closed = True
            self._links.clear()
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
            await leave(self._stack, exc)
        raise_failures("closing", failures)

    # -- sending -------------------------------------------------------------------------

    def register_peer(self, peer: str, addr: str) -> None:
        """Register, or replace, the address (``host:port``) of ``peer``."""
        parse_addr(addr)
        self._addresses[node_id(peer)] = addr

    def peer_moved(self, peer: str, addr: str) -> None:
        """``peer`` is at ``addr`` from now on: a connection to it that leads elsewhere is left.

        It would be found broken anyway, but only when nothing has come for
        ``keepalive_timeout_s``. The next dial asks the KV as ever.
        """
        link = self._links.get(node_id(peer))
        if link is not None:
            link.follow(addr)

    def outlive(self, incarnation: int) -> None:
        """Begin sessions as a life newer than ``incarnation`` from now on.

        A receiver that still holds one of a newer life, from before this process's clock went
        back, would let in no other.
        """
        self._incarnation = max(self._incarnation, incarnation)

    async def send_to(self, peer: str, message: Sendable) -> None:
        """Send ``message`` to ``peer`` in order on its channel.

        Returns as soon as the window has room for it; waits, and holds up no other peer or
        channel, while it has not. A batch may be any object with the Arrow PyCapsule
        interface. A large one travels in several frames; if the call is cancelled meanwhile,
        those that were queued still arrive.

        Raises :class:`~laminar.errors.UnknownPeerError`, a
        :class:`~laminar.errors.RemoteError` when the peer is lost (told once on each channel; the
        next call starts anew), :class:`~laminar.errors.ChannelEndedError`,
        :class:`~laminar.errors.BatchTooLargeError`, or :class:`~laminar.errors.SchemaError`.
        """
        link = self._links.get(peer)
        if link is None or link.owed or not link.session.offer(message):
            check_message(message)
            link = await self._open(peer, message.channel)
            await link.send(message)
        elif link.writer_sleeps is not None:
            link.wake_writer()

    def try_send(self, peer: str, message: Sendable) -> None:
        """Send without waiting.

        Raises :class:`~laminar.errors.NoCreditError` when the window has no room for all of
        it, and what :meth:`send_to` raises. The peer must be registered or connected, since
        asking the KV takes time.
        """
        peer = node_id(peer)
        check_message(message)
        link = self._live_link(peer, message.channel)
        if link is None:
            if peer not in self._addresses:
                raise UnknownPeerError(_unknown(peer))
            link = self._start_link(peer)
        if isinstance(message, Data) and _is_foreign(message):
            message = Data(single_batch(message.batch), message.channel, message.vnode)
        if not link.offer(message):
            raise NoCreditError(f"no credit for {peer} on {message.channel!r} now")

    async def open_channel(self, peer: str, channel: str) -> None:
        """Open ``channel`` to ``peer`` before anything is sent on it.

        The peer learns of it, and barriers fanned out from now on travel on it too.
        """
        link = await self._open(peer, channel)
        link.session.channel(channel)
        link.wake_writer()

    async def fan_out_barrier(self, peers: Iterable[str], barrier: CheckpointBarrier) -> None:
        """Send ``barrier`` on every open channel to each of ``peers``, behind their data.

        A peer without an open channel gets it on the default one. All peers are tried; those
        that failed are reported together as :class:`~laminar.errors.FanOutError`.
        """
        failures: dict[str, LaminarError] = {}
        async with anyio.create_task_group() as tasks:
            for peer in dict.fromkeys(node_id(peer) for peer in peers):
                action = partial(self._send_barrier, peer, barrier)
                tasks.start_soon(collect, failures, peer, action)
        if failures:
            raise FanOutError(f"barrier {barrier.checkpoint_id}", failures)

    async def _send_barrier(self, peer: NodeId, barrier: CheckpointBarrier) -> None:
        link = await self._open(peer)
        open_channels = [c.name for c in link.session.channels.values() if not c.ended]
        failures: dict[str, LaminarError] = {}
        async with anyio.create_task_group() as tasks:
            for name in open_channels or [DEFAULT_CHANNEL]:
                action = partial(self.send_to, peer, Barrier(barrier, name))
                tasks.start_soon(collect, failures, name, action)
        raise_failures(f"barrier {barrier.checkpoint_id} to {peer}", failures)

    async def flush(self) -> None:
        """Wait until every peer has received everything sent to it so far.

        Received, not consumed: a slow consumer does not hold this up. Raises the failure of
        the one peer that was lost, or :class:`~laminar.errors.FanOutError` for several.
        """
        self._check_open()
        failures: dict[str, LaminarError] = {}
        await self._flush(failures)
        raise_failures("flush", failures)

    def is_alive(self, peer: str) -> bool:
        """The liveness flag: whether there is a working connection to ``peer`` now."""
        link = self._links.get(node_id(peer))
        return link is not None and link.alive

    def watch_peers(self) -> AbstractAsyncContextManager[AsyncIterator[PeerEvent]]:
        """Follow how the peers are, beginning with how they are now.

        ``async with sender.watch_peers() as events: async for event in events: …``. Whoever
        lags gets the newest event of each peer; ``deaths`` counts what it missed.
        """
        return self._board.watch()

    async def wait_dead(self, peer: str) -> PeerEvent:
        """Wait until ``peer`` is lost, restarted or has left; at once if it is so now."""
        return await self._board.wait_dead(node_id(peer))

    def heard(self) -> dict[NodeId, float]:
        """When each connected peer was last heard, in seconds of ``anyio.current_time``.

        What came since the last call counts as heard just now, so this is as exact as the calls
        are frequent, and at worst ``keepalive_interval_s`` late. An idle peer gives a sign of
        life about every two such intervals.
        """
        now = anyio.current_time()
        return {
            link.session.peer: link.vigil.heard_at(now)
            for link in self._links.values()
            if link.vigil is not None
        }

    def dialled_in_vain(self) -> list[NodeId]:
        """Whom this sender tries to connect to, and could not when it last tried."""
        return [link.session.peer for link in self._links.values() if link.dials_in_vain]

    def statistics(self) -> SenderStatistics:
        """A snapshot of all links."""
        now = anyio.current_time()
        return SenderStatistics(
            peers={link.session.peer: _statistics(link, now) for link in self._links.values()},
            certificates=self._tls.statistics() if self._tls else None,
        )

    # -- links ---------------------------------------------------------------------------

    def _live_link(self, peer: NodeId, channel: str | None) -> Link | None:
        """The link to ``peer``; raises, once on each channel, why the last one failed."""
        failed = self._failed.get(peer)
        if failed is not None:
            if not failed.failure_told:
                raise failed.tell_failure(channel)
            if not failed.owed:
                del self._failed[peer]
        link = failed or self._links.get(peer)
        if link is not None and channel in link.owed:
            raise link.owed.pop(channel)
        return self._links.get(peer)

    async def _open(self, peer: str, channel: str | None = None) -> Link:
        peer = node_id(peer)
        link = self._live_link(peer, channel)
        if link is None:
            with suppress(StreamBrokenError):  # the link tries again, and tells in the end
                await self._resolve(peer)  # an unknown peer is the caller's error, at once
            link = self._live_link(peer, channel) or self._start_link(peer)
        return link

    def _start_link(self, peer: NodeId) -> Link:
        tasks = self._check_open()
        # Each session is a life of its own: what an earlier one lost must not look resumed.
        self._incarnation += 1
        incarnation = Incarnation(self._incarnation)
        session = OutboundSession(self.local_id, peer, incarnation, self.config, self._keyring)
        resolve = partial(self._resolve, peer)
        note = partial(self._board.note, peer)
        link = Link(session, self.config, self._network, resolve, self._rng, note)
        before = self._failed.pop(peer, None)
        if before is not None:
            link.owed = before.owed
        self._links[peer] = link
        tasks.start_soon(self._run_link, peer, link)
        return link

    def _check_open(self) -> TaskGroup:
        if self._closed or self._tasks is None:
            raise ClosedError("this ShuffleSender is not open; use it inside its async with")
        return self._tasks

    async def _run_link(self, peer: NodeId, link: Link) -> None:
        await link.run()
        if link.failure is not None:
            self._links.pop(peer, None)
            self._failed[peer] = link

    async def _resolve(self, peer: NodeId) -> str:
        """The peer's address as it is now: the KV's word before the registered one."""
        if self._kv is not None:
            published = await self._kv.read_from(peer, SHUFFLE_ADDR_KEY)
            if published is not None:
                return _checked(peer, published)
        registered = self._addresses.get(peer)
        if registered is None:
            raise UnknownPeerError(_unknown(peer))
        return registered

    # -- closing -------------------------------------------------------------------------

    async def _flush(self, failures: dict[str, LaminarError]) -> None:
        async with anyio.create_task_group() as tasks:
            for peer, link in self._links.items():
                tasks.start_soon(collect, failures, peer, link.flush)
            for peer, link in self._failed.items():
                if not link.failure_told:
                    failures[peer] = link.tell_failure()

    async def _drain(self) -> dict[str, LaminarError]:
        """Flush and say goodbye, in time; what could not be delivered comes back as failures."""
        failures: dict[str, LaminarError] = {}
        with anyio.move_on_after(self.config.close_timeout_s) as scope:
            await self._flush(failures)
            async with anyio.create_task_group() as tasks:
                for link in self._links.values():
                    tasks.start_soon(link.close, "the sender is done")
        if scope.cancelled_caught:
            after = f"within close_timeout_s ({self.config.close_timeout_s:g} s)"
            for peer, link in self._links.items():
                if link.session.outstanding and peer not in failures:
                    failures[peer] = PeerLostError(
                        f"peer {peer} did not confirm everything sent to it {after}"
                        + (f": {link.trouble}" if link.trouble and not link.alive else ""),
                        peer=peer,
                    )
        return failures


def _is_foreign(message: Sendable) -> bool:
    """Whether ``message`` carries a batch of another library."""
    batch: object = message.batch if isinstance(message, Data) else None
    return batch is not None and not isinstance(batch, pa.RecordBatch)


def _checked(peer: NodeId, addr: str) -> str:
    """An address from the KV: if it is nonsense the peer is to blame, and may mend it."""
    try:
        parse_addr(addr)
    except ConfigError as error:
        raise StreamBrokenError(f"peer {peer} published a bad address: {error}") from error
    return addr


def _unknown(peer: NodeId) -> str:
    return (
        f"no address for peer {peer}: call register_peer({str(peer)!r}, 'host:port'), or give the "
        f"sender a kv in which {peer} publishes {SHUFFLE_ADDR_KEY!r}"
    )


def _statistics(link: Link, now: float) -> LinkStatistics:
    session = link.session
    return LinkStatistics(
        alive=link.alive,
        silent_s=None if link.vigil is None else now - link.vigil.heard_at(now),
        connections=link.connections,
        trouble=link.trouble,
        frames_sent=session.frames_sent,
        bytes_sent=session.bytes_sent,
        channels={name: channel.statistics(now) for name, channel in session.channels.items()},
    )
