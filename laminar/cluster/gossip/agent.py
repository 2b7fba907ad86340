"""The driver of the gossip: a socket, a clock and chance for a :class:`GossipCore`."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio

from laminar.cluster.amplification import SECRET_BYTES, AddressProof
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.exchange import Outgoing
from laminar.cluster.gossip.identity import start_incarnation
from laminar.cluster.gossip.key_driver import KeyChange, KeyDriver
from laminar.cluster.gossip.key_messages import KeyReport
from laminar.cluster.gossip.kv import GossipKv
from laminar.cluster.gossip.member import Member
from laminar.cluster.gossip.slot import GUEST_KEY
from laminar.cluster.gossip.statistics import GossipStatistics
from laminar.cluster.keyring import Keyring
from laminar.cluster.kv import KvEvent
from laminar.cluster.seal import LIFE_BYTES, DatagramSealer, SealStatistics
from laminar.config import DatagramConfig, GossipConfig
from laminar.errors import (
    ClosedError,
    ConfigError,
    NodeIdTakenError,
    StreamBrokenError,
    StreamError,
)
from laminar.following import Followers
from laminar.model import Incarnation, NodeId, node_id
from laminar.net.address import is_unspecified, parse_addr
from laminar.net.datagram import DatagramNetwork, DatagramSocket
from laminar.net.tasks import leave
from laminar.net.udp import UdpNetwork


class GossipAgent:
    """One node's part in the gossip, over UDP.

    ::

        async with GossipAgent("a", "10.0.0.1:7946", seeds=["seed.example:7946"]) as agent:
            await agent.kv.write("greeting", "hello")
            async with agent.watch_members() as members:
                async for member in members: ...

    Leaving the block says goodbye, and waits until somebody has heard it or
    ``leave_timeout_s`` is over.
    """

    def __init__(
        self,
        node: str,
        listen: str,
        *,
        seeds: Sequence[str] = (),
        advertise: str | None = None,
        cluster: str = "laminar",
        keyring: Keyring | None = None,
        keys_file: str | Path | None = None,
        last_incarnation: int = 0,
        guest: bool = False,
        config: GossipConfig | None = None,
        datagrams: DatagramConfig | None = None,
        network: DatagramNetwork | None = None,
    ) -> None:
        """Prepare ``node`` to gossip at ``listen`` (``host:port``; port 0: any).

        ``seeds`` are addresses or DNS names with ports; one that answers is enough.
        ``advertise`` is where others reach this node, if not at the address that it listens on.
        ``keyring`` protects the datagrams; without one anybody can take part. When its keys are
        replaced (:meth:`rotate_key`, here or on another node), it is kept in ``keys_file``, which
        ``laminar.cluster.keyring_file`` reads.
        ``last_incarnation`` is that of the node's last life, if the caller has kept it.
        A ``guest`` only comes to look: others show it while it is there, and not once it is gone.

        Raises :class:`~laminar.errors.ConfigError` when ``node`` or an address is not valid, or
        when there is a file for keys and no ring to keep there.
        """
        if keys_file is not None and keyring is None:
            raise ConfigError(f"a keyring is needed to be kept in {keys_file}: load it from there")
        self._node = node_id(node)
        self._listen = listen
        self._advertise = advertise
        for addr in (listen, *seeds, *([advertise] if advertise else [])):
            parse_addr(addr)
        self._seeds = tuple(seeds)
        self._cluster = cluster
        self._keyring = keyring
        self._keys_file = None if keys_file is None else Path(keys_file)
        self._keys: KeyDriver | None = None
        self._last_incarnation = last_incarnation
        self._guest = guest
        self._config = config if config is not None else GossipConfig()
        self._datagrams = datagrams if datagrams is not None else DatagramConfig()
        self._network: DatagramNetwork = network if network is not None else UdpNetwork()
        self._rng = random.Random()
        self._errors: Counter[str] = Counter()
        self._followers: Followers[NodeId, Member] = Followers()
        self._stack = AsyncExitStack()
        self._socket: DatagramSocket | None = None
        self._core: GossipCore | None = None
        self._wakes_at = float("-inf")
        """When the next tick is planned."""
        self._kv: GossipKv | None = None
        self._sealer: DatagramSealer | None = None

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Bind, and begin to look for others.

        Raises :class:`~laminar.errors.StreamBrokenError` when the address cannot be bound, and
        :class:`~laminar.errors.ConfigError` when others could not reach it.
        """
        if self._socket is not None:
            raise ClosedError("a GossipAgent is entered only once")
        self._socket = sock = await self._network.bind(self._listen)
        try:
            self._core = core = self._make_core(self._advertise or sock.local_addr)
            if self._guest:
                core.announce(GUEST_KEY, "1", anyio.current_time())
            self._kv = GossipKv(core, self._hand_out)
            self._keys = self._make_keys(core)
            await self._resolve_seeds(core)
            self._wake = anyio.Event()
            tasks = await self._stack.enter_async_context(anyio.create_task_group())
        except BaseException:
            sock.close()
            raise
        self._tasks = tasks
        self._stopped = anyio.Event()
        self._said_goodbye = anyio.Event()
        self._hand_out()
        tasks.start_soon(self._receive_loop, sock)
        tasks.start_soon(self._tick_loop)
        tasks.start_soon(self._resolve_loop)
        if self._keys is not None:
            tasks.start_soon(self._keys.run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._keys is not None:
            self._keys.close()
        self._tasks.cancel_scope.cancel()
        try:
            await leave(self._stack, exc)
        finally:
            try:
                await self._say_goodbye()
            finally:
                self._stopped.set()
                self._require_socket().close()

    # -- what users want --------------------------------------------------------------------------

    @property
    def kv(self) -> GossipKv:
        """The keys of all nodes."""
        if self._kv is None:
            raise ClosedError("a GossipAgent has a KV inside its `async with` block")
        return self._kv

    @property
    def local_addr(self) -> str:
        """Where it listens, ``host:port``."""
        return self._require_socket().local_addr

    @property
    def incarnation(self) -> Incarnation:
        """That of this life, which may grow. Keep it, and give it to the next one."""
        return self._require_core().incarnation

    def members(self) -> dict[NodeId, Member]:
        """All nodes that are known, this one included, but guests that are gone."""
        return self._require_core().members()

    def watch_members(self) -> AbstractAsyncContextManager[AsyncIterator[Member]]:
        """Follow the members, beginning with those that are known; it tells changes only.

        A watcher that lags gets one event for each member that changed, the newest. A member
        that is forgotten is not told: it was gone for long.
        """
        return self._followers.follow(self.members())

    def reachable(self, node: NodeId) -> None:
        """``node`` was just heard of otherwise, say over a data connection."""
        self._require_core().reachable(node, anyio.current_time())
        self._hand_out()

    def unreachable(self, node: NodeId) -> None:
        """``node`` could just not be reached otherwise."""
        self._require_core().unreachable(node, anyio.current_time())
        self._hand_out()

    async def greet(self, addr: str) -> None:
        """Begin an exchange with whoever is at ``addr`` (numeric, ``host:port``), out of turn."""
        core = self._require_core()
        if core.error is None:
            await self._send([core.greet(addr, anyio.current_time(), self._rng)])

    @property
    def error(self) -> NodeIdTakenError | None:
        """Why the gossip of this node has stopped, if it has."""
        return self._require_core().error

    async def wait_stopped(self) -> NodeIdTakenError:
        """Wait until the gossip of this node stops for good, and return why."""
        await self._stopped.wait()
        error = self.error
        if error is None:
            raise ClosedError("this GossipAgent was closed")
        return error

    def statistics(self) -> GossipStatistics:
        """A snapshot."""
        told = self._require_core().statistics()
        unread = 0 if self._keys is None else self._keys.drops
        return replace(told, drops={**told.drops, "keys": unread}) if unread else told

    def seal_statistics(self) -> SealStatistics:
        """A snapshot of what protects the datagrams."""
        if self._sealer is None:
            raise ClosedError("a GossipAgent has statistics inside its `async with` block")
        return self._sealer.statistics()

    @property
    def network_errors(self) -> dict[str, int]:
        """How often the system refused to ``send``, ``receive`` or ``resolve``."""
        return dict(self._errors)

    # -- keys -------------------------------------------------------------------------------------

    async def rotate_key(
        self,
        new_key: bytes | None = None,
        *,
        timeout_s: float | None = None,
        skip_dead: bool = False,
    ) -> KeyChange:
        """Have all members use ``new_key``, by default one made here, and drop all others.

        In three steps, each of them taken by all members before the next one: they open with it,
        they seal with it too, they forget the others. Each may take ``timeout_s``, by default
        the config's ``key_step_timeout_s``. A member that is dead, and may come back with an
        old key only, is waited for too unless ``skip_dead``; then it is refused until somebody
        gives it the new keyring file.

        Whoever has an old key and hears the datagrams learns the new one: after a leak keys are
        replaced by hand, see ``docs/design/key-rotation.md``.

        Raises :class:`~laminar.errors.KeyRotationError` when not all members take a step in
        time, and all have a key in common then; :class:`~laminar.errors.ConfigError` when there
        is no keyring, the key is not valid, or this node is changing keys already.
        """
        keys, timeout_s = self._require_keys(timeout_s)
        return await keys.rotate(new_key, timeout_s, skip_dead)

    async def install_key(
        self, key: bytes, *, timeout_s: float | None = None, skip_dead: bool = False
    ) -> KeyChange:
        """Have all members open with ``key``: the first step of :meth:`rotate_key` alone."""
        keys, timeout_s = self._require_keys(timeout_s)
        return await keys.install(key, timeout_s, skip_dead)

    async def use_key(
        self, identity: bytes, *, timeout_s: float | None = None, skip_dead: bool = False
    ) -> KeyChange:
        """Have all members seal with the key of that id, which all must have by now.

        The key itself is not told to anybody. See :meth:`rotate_key` for what it raises.
        """
        keys, timeout_s = self._require_keys(timeout_s)
        return await keys.use(identity, timeout_s, skip_dead)

    async def remove_key(
        self, identity: bytes, *, timeout_s: float | None = None, skip_dead: bool = False
    ) -> KeyChange:
        """Have all members use this node's primary key, and drop the one of that id.

        No key is told to anybody. See :meth:`rotate_key` for what it raises.
        """
        keys, timeout_s = self._require_keys(timeout_s)
        return await keys.remove(identity, timeout_s, skip_dead)

    def key_reports(self) -> dict[NodeId, KeyReport]:
        """Which keys each node has, by their ids, as far as it has told; empty without keys."""
        return {} if self._keys is None else self._keys.reports

    def key_change_waits_for(self) -> dict[NodeId, str]:
        """Whom the change of keys that was begun here waits for, and why; empty without one."""
        return {} if self._keys is None else self._keys.waits_for

    # -- tasks ------------------------------------------------------------------------------------

    async def _receive_loop(self, sock: DatagramSocket) -> None:
        core = self._require_core()
        while True:
            try:
                source, datagram = await sock.receive()
            except StreamBrokenError:
                self._errors["receive"] += 1
                await anyio.sleep(self._config.interval_s / 10)  # an error that stays must not spin
                continue
            outgoing = core.on_datagram(source, datagram, anyio.current_time(), self._rng)
            self._hand_out()
            await self._send(outgoing)

    async def _tick_loop(self) -> None:
        core = self._require_core()
        while True:
            self._wakes_at = core.due
            with anyio.CancelScope(deadline=self._wakes_at):
                await self._wake.wait()
            self._wake = anyio.Event()
            if anyio.current_time() >= core.due:
                outgoing = core.on_tick(anyio.current_time(), self._rng)
                self._hand_out()
                await self._send(outgoing)

    async def _resolve_loop(self) -> None:
        """Look the seeds up again while nobody is there: their addresses may have changed."""
        core = self._require_core()
        while True:
            await anyio.sleep(self._config.resolve_interval_s)
            if core.alone:
                await self._resolve_seeds(core)

    async def _send(self, outgoing: Sequence[Outgoing]) -> None:
        sock = self._require_socket()
        for addr, datagram in outgoing:
            try:
                await sock.send_to(addr, datagram)
            except StreamBrokenError:
                self._errors["send"] += 1

    async def _say_goodbye(self) -> None:
        """Tell some nodes that this one leaves, and wait for one to have heard it."""
        core = self._require_core()
        if core.alone or core.error is not None:
            return
        # Also when the block was cancelled: else the others would take this node for dead.
        with anyio.move_on_after(self._config.leave_timeout_s, shield=True):
            core.leave(anyio.current_time())
            self._hand_out()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive_loop, self._require_socket())
                tasks.start_soon(self._tick_loop)
                await self._said_goodbye.wait()
                tasks.cancel_scope.cancel()

    # -- parts ------------------------------------------------------------------------------------

    def _make_core(self, addr: str) -> GossipCore:
        if is_unspecified(addr):
            raise ConfigError(
                f"others cannot reach {addr}: give the address that they can reach as `advertise`"
            )
        self._sealer = DatagramSealer(
            self._cluster,
            self._node,
            secrets.token_bytes(LIFE_BYTES),
            self._keyring,
            self._datagrams,
        )
        wall_ns = time.time_ns()
        return GossipCore(
            self._node,
            addr,
            start_incarnation(wall_ns, self._last_incarnation),
            self._sealer,
            AddressProof(secrets.token_bytes(SECRET_BYTES), self._datagrams),
            self._config,
            wall_ns=wall_ns,
            now=anyio.current_time(),
        )

    def _make_keys(self, core: GossipCore) -> KeyDriver | None:
        if self._keyring is None:
            return None
        interval_s = self._config.interval_s
        return KeyDriver(core, self._keyring, self._keys_file, interval_s, self._hand_out)

    def _require_keys(self, timeout_s: float | None) -> tuple[KeyDriver, float]:
        self._require_core()
        if self._keys is None:
            raise ConfigError("this cluster has no keys to change: start its nodes with a keyring")
        return self._keys, self._config.key_step_timeout_s if timeout_s is None else timeout_s

    async def _resolve_seeds(self, core: GossipCore) -> None:
        found: list[str] = []
        for seed in self._seeds:
            try:
                found += await self._network.resolve(seed)
            except StreamError:
                self._errors["resolve"] += 1
        if found or not self._seeds:
            core.set_seeds(tuple(dict.fromkeys(found)))

    def _hand_out(self) -> None:
        """Tell whoever wants to know what has changed; the core may want to tick earlier now."""
        core = self._require_core()
        if core.due < self._wakes_at:
            self._wake.set()
        if core.farewells:
            self._said_goodbye.set()
        for event in core.take_events():
            if self._keys is not None:
                self._keys.on_event(event)
            if isinstance(event, KvEvent):
                self.kv.changed(event)
            else:
                self._followers.changed(event.node, event)
        if core.error is not None:
            self._stopped.set()

    def _require_core(self) -> GossipCore:
        if self._core is None:
            raise ClosedError("a GossipAgent works inside its `async with` block")
        return self._core

    def _require_socket(self) -> DatagramSocket:
        if self._socket is None:
            raise ClosedError("a GossipAgent has an address inside its `async with` block")
        return self._socket
