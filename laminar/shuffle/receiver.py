"""``ShuffleReceiver``: the receiving end of the fabric."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import replace
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from laminar.cluster.keyring import Keyring
from laminar.cluster.kv import SHUFFLE_ADDR_KEY, ClusterKv
from laminar.config import ShuffleConfig
from laminar.errors import (
    ClosedError,
    ConfigError,
    PeerLostError,
    PeerRestartedError,
    ProtocolError,
    RemoteError,
    StreamClosedError,
    StreamError,
    StreamUntrustedError,
)
from laminar.model import Incarnation, NodeId, node_id
from laminar.net.address import parse_addr, reaches_beyond_loopback
from laminar.net.stream import ByteStream, Listener, Network
from laminar.net.tasks import leave
from laminar.net.tcp import TcpNetwork
from laminar.net.tls import TlsNetwork, certified
from laminar.shuffle import control
from laminar.shuffle.admission import Admission
from laminar.shuffle.authentication import NONCE_BYTES, keyring_of
from laminar.shuffle.farewell import FAREWELL_TIMEOUT_S, close_frame, tell
from laminar.shuffle.frames import FrameDecoder
from laminar.shuffle.greeting import Greeting
from laminar.shuffle.inbound import InboundSession
from laminar.shuffle.inbound_connection import InboundConnection
from laminar.shuffle.inbox import Envelope, Inbox
from laminar.shuffle.liveness import PeerBoard, PeerEvent, PeerState
from laminar.shuffle.messages import Close, Hello
from laminar.shuffle.peers import Peers
from laminar.shuffle.reception import receive_hello
from laminar.shuffle.statistics import PeerStatistics, ReceiverStatistics

ACCEPT_PAUSE_S = 0.1
"""Pause after a failed accept: when descriptors are short, some must be closed first."""

_NOT_OPEN = "this ShuffleReceiver is not open; use it inside its async with"


class ShuffleReceiver:
    """Accepts peers and delivers what they send, tagged with their ids.

    Made by :meth:`bind`; an async context manager. :meth:`recv` delivers the channels that
    nobody claimed with :meth:`channel`.
    """

    def __init__(
        self,
        local_id: str,
        addr: str,
        *,
        advertise: str | None = None,
        kv: ClusterKv | None = None,
        config: ShuffleConfig | None = None,
        keyring: Keyring | None = None,
        network: Network | None = None,
        rng: random.Random | None = None,
        incarnation: int | None = None,
    ) -> None:
        parse_addr(addr)
        self.local_id = node_id(local_id)
        self.config = config or ShuffleConfig()
        self._keyring = keyring_of(self.config, keyring)
        if keyring is not None and self.config.validate is None:
            # Who proves a key of the ring is trusted no less than with keys of the config.
            self.config = replace(self.config, validate="layout")
        self._addr = addr
        self._advertise = advertise
        self._kv = kv
        self._network: Network = network or TcpNetwork()
        self._tls: TlsNetwork | None = None
        if self.config.tls is not None:
            self._network = self._tls = TlsNetwork(self._network, self.config.tls)
        self._rng = rng or secrets.SystemRandom()
        self._incarnation = Incarnation(time.time_ns() if incarnation is None else incarnation)
        self._peers = Peers(self.config, self._inbox_of)
        self._connections: dict[NodeId, InboundConnection] = {}
        self._returns: dict[NodeId, anyio.CancelScope] = {}
        """Of peers whose connection broke: ends the wait for their return."""
        self._board = PeerBoard(self.config.peers_max)
        self._closed = _NOT_OPEN
        self._inbox = Inbox(self, self._closed)
        self._claimed: dict[str, Inbox] = {}
        self._drops: Counter[str] = Counter()
        self._accept_failures = 0
        self._listener: Listener | None = None
        self._tasks: TaskGroup | None = None
        self._stack = AsyncExitStack()

    @classmethod
    def bind(
        cls,
        local_id: str,
        addr: str = "127.0.0.1:0",
        *,
        advertise: str | None = None,
        kv: ClusterKv | None = None,
        config: ShuffleConfig | None = None,
        keyring: Keyring | None = None,
        network: Network | None = None,
        rng: random.Random | None = None,
        incarnation: int | None = None,
    ) -> Self:
        """A receiver that listens at ``addr`` (``host:port``; port 0 is chosen) in its block.

        With a ``kv`` it publishes its address there, or ``advertise`` where peers reach it
        under another one. Entering raises :class:`~laminar.errors.StreamBrokenError` when the
        address cannot be bound, and :class:`~laminar.errors.ConfigError` when other machines
        can reach it and there are neither keys nor ``tls``, nor does ``config`` allow that by name.

        ``keyring``, in place of ``config.keys``, is one that others share; when it changes, the
        next connection is let in by what it is then.

        ``network``, ``rng`` and ``incarnation`` are there to be replaced in tests; with
        ``config.tls``, whose files are read at once, the network's streams are encrypted.
        """
        return cls(
            local_id,
            addr,
            advertise=advertise,
            kv=kv,
            config=config,
            keyring=keyring,
            network=network,
            rng=rng,
            incarnation=incarnation,
        )

    async def __aenter__(self) -> Self:
        if self._listener is not None:
            raise ClosedError("a ShuffleReceiver is entered only once")
        self._listener = await self._network.listen(self._addr)
        try:
            self._check_exposure(self._listener.local_addr)
            if self._kv is not None:
                await self._kv.write(SHUFFLE_ADDR_KEY, self._advertise or self.local_addr)
            self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        except BaseException:
            self._listener.close()
            raise
        self._close_inboxes("")
        self._tasks.start_soon(self._accept_loop, self._listener, self._tasks)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        try:
            await self._say_goodbye()
        finally:
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
            self._close_inboxes("the receiver is closed")
            try:
                await leave(self._stack, exc)
            finally:
                if self._kv is not None:
                    with anyio.move_on_after(self.config.close_timeout_s, shield=True):
                        await self._kv.delete(SHUFFLE_ADDR_KEY)

    def _check_exposure(self, addr: str) -> None:
        """Nobody listens to the world by accident."""
        config = self.config
        asks = self._keyring is not None or config.authenticated
        if not asks and not config.allow_unauthenticated and reaches_beyond_loopback(addr):
            raise ConfigError(
                f"{self._addr} lets other machines connect to {self.local_id}, and nothing asks "
                "who they are: share a keyring, set ShuffleConfig.keys or tls, or "
                "allow_unauthenticated=True if everybody who can connect may send"
            )

    async def _say_goodbye(self) -> None:
        """Tell every sender how far its consumer is and that this is the end, if it listens."""
        with anyio.move_on_after(FAREWELL_TIMEOUT_S):
            for connection in list(self._connections.values()):
                connection.say_goodbye()
            for connection in list(self._connections.values()):
                await connection.closed.wait()

    # -- receiving -----------------------------------------------------------------------

    @property
    def local_addr(self) -> str:
        """The address this receiver listens at, ``host:port``."""
        if self._listener is None:
            raise ClosedError(_NOT_OPEN)
        return self._listener.local_addr

    async def recv(self) -> Envelope:
        """Wait for the next message of an unclaimed channel: ``(peer_id, message)``.

        See :meth:`Inbox.recv <laminar.shuffle.inbox.Inbox.recv>` for what it raises.
        """
        return await self._inbox.recv()

    def drain_available(self) -> list[Envelope]:
        """Everything of the unclaimed channels that is here now, barriers included."""
        return self._inbox.drain_available()

    def __aiter__(self) -> Inbox:
        return self._inbox

    def channel(self, name: str) -> Inbox:
        """Claim the channels called ``name``, of all peers: only the returned inbox has them."""
        inbox = self._claimed.get(name)
        if inbox is None:
            control.check_channel_name(name)
            inbox = self._claimed[name] = Inbox(self, self._closed)
            self._inbox.split_off(name, inbox)
            for session in self._peers.sessions.values():
                if name in session.channels:
                    session.channels[name].mailbox = inbox
        return inbox

    def is_alive(self, peer: str) -> bool:
        """The liveness flag: whether there is a working connection from ``peer`` now."""
        return self._board.is_connected(node_id(peer))

    def watch_peers(self) -> AbstractAsyncContextManager[AsyncIterator[PeerEvent]]:
        """Follow how the peers are; see :meth:`ShuffleSender.watch_peers`."""
        return self._board.watch()

    async def wait_dead(self, peer: str) -> PeerEvent:
        """Wait until ``peer`` is lost, restarted or has left; at once if it is so now."""
        return await self._board.wait_dead(node_id(peer))

    def heard(self) -> dict[NodeId, float]:
        """When each connected peer was last heard; see :meth:`ShuffleSender.heard`."""
        return self._heard(anyio.current_time())

    def _heard(self, now: float) -> dict[NodeId, float]:
        connections = self._connections.items()
        return {peer: by.vigil.heard_at(now) for peer, by in connections if not by.session.probes}

    def statistics(self) -> ReceiverStatistics:
        """A snapshot of all peers."""
        now = anyio.current_time()
        heard = self._heard(now)
        return ReceiverStatistics(
            peers={
                peer: PeerStatistics(
                    alive=peer in self._connections,
                    silent_s=now - heard[peer] if peer in heard else None,
                    connections=session.connections,
                    duplicates=session.duplicates,
                    channels={name: c.statistics() for name, c in session.channels.items()},
                )
                for peer, session in self._peers.sessions.items()
            },
            drops=dict(self._drops),
            accept_failures=self._accept_failures,
            certificates=self._tls.statistics() if self._tls else None,
        )

    # -- the inboxes' side ---------------------------------------------------------------

    def _close_inboxes(self, why: str) -> None:
        self._closed = why
        for inbox in (self._inbox, *self._claimed.values()):
            inbox.close(why)

    def _inbox_of(self, name: str) -> Inbox:
        return self._claimed.get(name, self._inbox)

    def consumed(self, session: InboundSession) -> None:
        """See :class:`~laminar.shuffle.inbox.Supply`."""
        connection = self._connections.get(session.peer)
        if connection is not None and connection.session is session:
            connection.wake()

    def broken(self, session: InboundSession, error: ProtocolError, teller: Inbox) -> RemoteError:
        """See :class:`~laminar.shuffle.inbox.Supply`."""
        self._drops[error.reason] += 1
        loss = self._lose(session, f"was cut off: {error}", but=teller)
        connection = self._connections.get(session.peer)
        if connection is not None and connection.session is session:
            connection.cut()
        return loss

    # -- connections ---------------------------------------------------------------------

    async def _accept_loop(self, listener: Listener, tasks: TaskGroup) -> None:
        admission = Admission(self.config, anyio.current_time())
        while True:
            try:
                stream = await listener.accept()
            except StreamClosedError:
                return
            except StreamError:
                self._accept_failures += 1
                await anyio.sleep(ACCEPT_PAUSE_S)
                continue
            refusal = admission.refusal(anyio.current_time())
            if refusal is not None:
                self._drops[refusal] += 1
                stream.close()
                continue
            tasks.start_soon(self._serve, stream, admission)

    async def _serve(self, stream: ByteStream, admission: Admission) -> None:
        """One connection, from its greeting to its end, and what that means for the session."""
        with closing(stream):
            try:
                greeted = await self._greet(stream)
            finally:
                admission.introduced()
            if greeted is None:
                admission.left()
                return
            connection, decoder = greeted
            session = connection.session
            if not session.probes:
                self._board.note(session.peer, PeerState.CONNECTED)
            outcome = await connection.run(decoder, self._drops)
            admission.left()
            if self._connections.get(session.peer) is not connection:
                return  # a newer connection has taken over
            del self._connections[session.peer]
        if session.probes:
            self._peers.forget(session)
        elif isinstance(outcome, Close):
            self._farewell(session, outcome)
        elif isinstance(outcome, ProtocolError):
            self._lose(session, f"was cut off: {outcome}")
        else:
            self._board.note(session.peer, PeerState.DISCONNECTED, str(outcome))
            await self._await_return(session, outcome)

    async def _greet(self, stream: ByteStream) -> tuple[InboundConnection, FrameDecoder] | None:
        """Shake hands; None, and counted, when the peer may not come in."""
        nonce = self._rng.randbytes(NONCE_BYTES)
        keys = () if self._keyring is None else self._keyring.keys
        greeting = Greeting(self.local_id, self.config, keys, nonce)
        try:
            with anyio.fail_after(self.config.handshake_timeout_s):
                greeting.certified = await certified(stream)
                hello, decoder = await receive_hello(stream, greeting)
            return self._welcome(stream, greeting, hello, decoder), decoder
        except ProtocolError as error:
            self._drops[error.reason] += 1
            await tell(stream, greeting.prefaced(close_frame(str(error))))
        except StreamUntrustedError as error:
            self._drops[error.reason] += 1
        except TimeoutError:
            self._drops["timeout"] += 1
        except StreamError:
            self._drops["handshake"] += 1
        return None

    def _welcome(
        self, stream: ByteStream, greeting: Greeting, hello: Hello, decoder: FrameDecoder
    ) -> InboundConnection:
        """From now on the connection is the current one of its session.

        Raises :class:`~laminar.errors.ProtocolError` when there can be no session.
        """
        session, ended = self._peers.greet(hello)
        welcome = greeting.prefaced(session.attach(hello, self.local_id, self._incarnation))
        superseded = self._connections.pop(hello.node, None)
        if superseded is not None:
            superseded.supersede()
        if hello.node in self._returns:
            self._returns[hello.node].cancel()
        if ended is not None and ended.begun:
            self._board.note(hello.node, PeerState.RESTARTED, "a newer incarnation came")
            restarted = PeerRestartedError(f"peer {hello.node} restarted", peer=hello.node)
            self._tell(ended, restarted)
        decoder.open_for_data(session.admit, self.config.max_frame_bytes)
        connection = self._connections[hello.node] = InboundConnection(stream, session, welcome)
        return connection

    # -- the end of a session ------------------------------------------------------------

    async def _await_return(self, session: InboundSession, why: StreamError) -> None:
        """The connection broke: give the peer time to come back, then report its loss."""
        with anyio.CancelScope() as scope:
            self._returns[session.peer] = scope
            await anyio.sleep(self.config.reconnect_timeout_s)
        if self._returns.get(session.peer) is scope:
            del self._returns[session.peer]
        if not scope.cancelled_caught:
            after = f"for {self.config.reconnect_timeout_s:g} s"
            self._lose(session, f"is gone {after}: {why}")

    def _farewell(self, session: InboundSession, close: Close) -> None:
        """The peer left on purpose: tell those who have not seen the end of its channels."""
        if self._peers.forget(session):
            self._board.note(session.peer, PeerState.LEFT, close.reason)
            if not session.begun:
                return  # the peer found out that the one before is lost, and starts anew
            for inbox, channels in self._unfinished(session).items():
                inbox.put_close(channels, session.peer, close)

    def _lose(self, session: InboundSession, why: str, *, but: Inbox | None = None) -> RemoteError:
        loss = PeerLostError(f"peer {session.peer} {why}", peer=session.peer)
        if self._peers.forget(session):
            self._board.note(session.peer, PeerState.LOST, str(loss))
            self._tell(session, loss, but=but)
        return loss

    def _tell(
        self, session: InboundSession, error: RemoteError, *, but: Inbox | None = None
    ) -> None:
        for inbox, channels in self._unfinished(session).items():
            if inbox is not but:
                inbox.put_error(channels, session.peer, error)

    def _unfinished(self, session: InboundSession) -> dict[Inbox, list[str]]:
        """The inboxes that wait for more of this session, and of which channels."""
        waiting: dict[Inbox, list[str]] = {}
        for name, channel in session.channels.items():
            if not channel.ended:
                waiting.setdefault(self._inbox_of(name), []).append(name)
        for name, inbox in self._claimed.items():
            if session.peer in inbox.expected and name not in session.channels:
                waiting.setdefault(inbox, []).append(name)
        return waiting
