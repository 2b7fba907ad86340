"""``Node``: discovery and data plane of one process, wired together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

import anyio

import laminar
from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.kv import SHUFFLE_ADDR_KEY, ClusterKv
from laminar.cluster.memory import InMemoryKv
from laminar.errors import ClosedError, ConfigError, LaminarError
from laminar.model import NodeId, node_id
from laminar.net.address import reaches_beyond_loopback
from laminar.net.datagram import DatagramNetwork
from laminar.net.stream import Network
from laminar.net.tasks import leave, leave_with
from laminar.node.config import NodeConfig
from laminar.node.evidence import Evidence
from laminar.node.examiner import Examiner
from laminar.node.keys import load_keyring
from laminar.node.kv_membership import KvMembership
from laminar.node.life import Life
from laminar.node.membership import Membership
from laminar.node.ports import at_port_of, open_at_one_port
from laminar.node.probing import make_prober
from laminar.node.statistics import DiscoveryStatistics, NodeStatistics
from laminar.shuffle.exchange import Exchange
from laminar.shuffle.liveness import PeerEvent, PeerState
from laminar.shuffle.partition import Partitioner
from laminar.shuffle.probe import Prober
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender

_T = TypeVar("_T")


class Node:
    """One member of a cluster that shuffles.

    ::

        config = NodeConfig("a", listen="10.0.0.1:7946", seeds=("10.0.0.2:7946",))
        async with Node(config) as node:
            nodes = await node.ready(min_members=3)
            orders = node.exchange("orders", HashPartitioner(["id"], nodes))

    Entering the block binds, joins and publishes the address; leaving it delivers what was sent,
    then says goodbye. If another process takes over the node's id, the block is cancelled and
    leaves with :class:`~laminar.errors.NodeIdTakenError`.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        kv: ClusterKv | None = None,
        network: Network | None = None,
        datagram_network: DatagramNetwork | None = None,
    ) -> None:
        """Prepare a node.

        ``kv`` is the engine's own way to find the others; it takes the place of gossip and is not
        entered. ``network`` and ``datagram_network`` are there to be replaced in tests.

        Raises :class:`~laminar.errors.ConfigError` when ``config`` names files that are not what
        they should be.
        """
        self.config = config
        self.id: NodeId = node_id(config.node)
        self._given_kv = kv
        self._network = network
        self._datagram_network = datagram_network
        self._life = Life(config.state_file) if config.state_file is not None else None
        self._keyring = load_keyring(config)
        self._membership: Membership | None = None
        self._agent: GossipAgent | None = None
        self._sender: ShuffleSender | None = None
        self._receiver: ShuffleReceiver | None = None
        self._evidence = Evidence()
        self._stack = AsyncExitStack()
        self._tasks_stack = AsyncExitStack()
        self._block = anyio.CancelScope()
        self._error: LaminarError | None = None
        self._began = 0.0

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Bind, join, and publish the address.

        Raises :class:`~laminar.errors.StreamBrokenError` when the address cannot be bound, and
        :class:`~laminar.errors.ConfigError` when other machines can reach it and nothing would
        keep strangers out.
        """
        if self._membership is not None:
            raise ClosedError("a Node is entered only once")
        self._check_exposure()
        wall_ns = time.time_ns()
        incarnation = self._life.begin(wall_ns) if self._life is not None else wall_ns
        try:
            await open_at_one_port(
                self.config.listen,
                self._stack,
                lambda attempt: self._open_parts(incarnation + attempt),
            )
            tasks = await self._tasks_stack.enter_async_context(anyio.create_task_group())
        except BaseException:
            await self._stack.aclose()
            raise
        self._began = anyio.current_time()
        tasks.start_soon(self._follow_stop)
        tasks.start_soon(self._follow, self.sender.watch_peers())
        tasks.start_soon(self._follow, self.receiver.watch_peers())
        tasks.start_soon(self._listen)
        tasks.start_soon(self._follow_addresses)
        if self._agent is not None:
            tasks.start_soon(Examiner(self._agent.kv, self._make_prober).run)
        tasks.start_soon(self._follow_own_lives)
        self._tasks = tasks
        self._block.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._block.__exit__(exc_type, exc, traceback):
            exc = None
        self._tasks.cancel_scope.cancel()
        try:
            await leave(self._tasks_stack, exc)
        finally:
            if self._error is not None and exc is None:
                exc = self._error  # nobody needs what is unsent
            await leave_with(self._stack, exc)
        if self._error is not None and exc is self._error:
            raise self._error

    async def _open_parts(self, incarnation: int) -> None:
        config, enter = self.config, self._stack.enter_async_context
        listen = config.listen
        if self._given_kv is not None:
            self._membership = await enter(KvMembership(self._given_kv))
        elif config.peers:
            self._membership = await enter(KvMembership(await _fixed(self.id, config.peers)))
        elif config.etcd is not None:
            from laminar.cluster.etcd import EtcdKv  # an extra

            self._membership = await enter(KvMembership(await enter(EtcdKv(self.id, config.etcd))))
        else:
            self._agent = await enter(self._make_agent(incarnation))
            self._membership = self._agent
            listen = at_port_of(listen, self._agent.local_addr)
        kv = self._membership.kv
        self._receiver = await enter(
            ShuffleReceiver.bind(
                self.id,
                listen,
                advertise=config.advertise,
                kv=kv,
                config=config.shuffle,
                keyring=self._keyring,
                network=self._network,
                incarnation=incarnation,
            )
        )
        self._sender = await enter(
            ShuffleSender(
                self.id,
                kv=kv,
                config=config.shuffle,
                keyring=self._keyring,
                network=self._network,
                incarnation=incarnation,
            )
        )

    def _make_agent(self, incarnation: int) -> GossipAgent:
        config = self.config
        return GossipAgent(
            self.id,
            config.listen,
            seeds=config.seeds,
            advertise=config.advertise,
            cluster=config.shuffle.cluster,
            keyring=self._keyring,
            keys_file=config.keys_file,
            last_incarnation=incarnation - 1,
            config=config.gossip,
            datagrams=config.datagrams,
            network=self._datagram_network,
        )

    def _check_exposure(self) -> None:
        """Nobody lets the world into the gossip by accident; TLS does not protect it."""
        config = self.config
        gossips = not (config.peers or config.etcd or self._given_kv)
        if (
            gossips
            and self._keyring is None
            and not config.shuffle.allow_unauthenticated
            and reaches_beyond_loopback(config.listen)
        ):
            raise ConfigError(
                f"{config.listen} lets other machines gossip with {self.id}, and nothing asks who "
                "they are: give keys_file or shuffle.keys, or shuffle.allow_unauthenticated=True "
                "if everybody who can reach it may take part"
            )

    # -- what users want --------------------------------------------------------------------------

    @property
    def kv(self) -> ClusterKv:
        """The keys of all nodes."""
        return self._require(self._membership).kv

    @property
    def gossip(self) -> GossipAgent:
        """The gossip of this node, which replaces keys: ``node.gossip.rotate_key()``.

        Raises :class:`~laminar.errors.ConfigError` when it finds the others in another way.
        """
        self._require(self._membership)
        if self._agent is None:
            raise ConfigError(
                f"{self.id} does not gossip; its keys are replaced in its file, node by node"
            )
        return self._agent

    @property
    def sender(self) -> ShuffleSender:
        """The sending end; it finds every peer by its id."""
        return self._require(self._sender)

    @property
    def receiver(self) -> ShuffleReceiver:
        """The receiving end."""
        return self._require(self._receiver)

    @property
    def local_addr(self) -> str:
        """Where it listens, ``host:port``, for data and gossip."""
        return self.receiver.local_addr

    @property
    def error(self) -> LaminarError | None:
        """Why this node has stopped, if it has."""
        return self._error

    def members(self) -> dict[NodeId, Member]:
        """All nodes that are known, this one included, as this one sees them."""
        return self._require(self._membership).members()

    def alive(self) -> list[NodeId]:
        """The ids of those that are ``ALIVE``, sorted."""
        members = self.members().values()
        return sorted(member.node for member in members if member.state is MemberState.ALIVE)

    async def reachable(self) -> list[NodeId]:
        """The ids of those that are ``ALIVE`` and publish where to send to, sorted."""
        published = await self.kv.scan(SHUFFLE_ADDR_KEY)
        return [node for node in self.alive() if SHUFFLE_ADDR_KEY in published.get(node, ())]

    def watch_members(self) -> AbstractAsyncContextManager[AsyncIterator[Member]]:
        """Follow the members, beginning with those that are known; it tells changes only."""
        return self._require(self._membership).watch_members()

    async def ready(self, min_members: int = 1) -> list[NodeId]:
        """Wait until ``min_members`` nodes, this one included, are alive and can be sent to.

        Returns their ids, sorted.
        """
        changed = anyio.Event()
        members, addresses = self.watch_members(), self.kv.watch(SHUFFLE_ADDR_KEY)

        async def note(watch: AbstractAsyncContextManager[AsyncIterator[object]]) -> None:
            async with watch as changes:
                async for _ in changes:
                    changed.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(note, members)
            tasks.start_soon(note, addresses)
            while True:
                changed = anyio.Event()
                nodes = await self.reachable()
                if len(nodes) >= min_members:
                    tasks.cancel_scope.cancel()
                    return nodes
                await changed.wait()
        raise ClosedError("unreachable")

    def exchange(
        self, name: str, partitioner: Partitioner, *, inputs: Iterable[str] | None = None
    ) -> Exchange:
        """One operator's :class:`~laminar.Exchange` over ``partitioner.nodes``."""
        return Exchange(
            name,
            sender=self.sender,
            receiver=self.receiver,
            partitioner=partitioner,
            inputs=inputs,
        )

    def statistics(self) -> NodeStatistics:
        """A snapshot."""
        agent = self._agent
        return NodeStatistics(
            node=self.id,
            cluster=self.config.shuffle.cluster,
            version=laminar.__version__,
            addr=self.config.advertise or self.local_addr,
            uptime_s=anyio.current_time() - self._began,
            members=self.members(),
            sender=self.sender.statistics(),
            receiver=self.receiver.statistics(),
            discovery=DiscoveryStatistics(
                agent.statistics(), agent.seal_statistics(), agent.network_errors
            )
            if agent is not None
            else None,
        )

    # -- tasks ------------------------------------------------------------------------------------

    async def _follow_stop(self) -> None:
        """End the block when this node is no member any more."""
        self._error = await self._require(self._membership).wait_stopped()
        self._block.cancel()

    async def _follow(self, watch: AbstractAsyncContextManager[AsyncIterator[PeerEvent]]) -> None:
        """Tell the membership whom the data plane reached, and whom it could not."""
        membership = self._require(self._membership)
        connected: set[NodeId] = set()
        async with watch as events:
            async for event in events:
                peer, state = event.peer, event.state
                # Who is lost out of a connection that worked was sent away, or went, by a word.
                by_word = state is PeerState.LOST and peer in connected
                connected.discard(peer)
                if state is PeerState.CONNECTED:
                    connected.add(peer)
                    membership.reachable(peer)
                elif state is PeerState.RESTARTED:
                    membership.reachable(peer)
                elif state in (PeerState.DISCONNECTED, PeerState.LOST) and not by_word:
                    membership.unreachable(peer)

    async def _listen(self) -> None:
        """Tell the membership of whom the data plane hears, and whom it calls in vain."""
        membership = self._require(self._membership)
        while True:
            await anyio.sleep(self.config.gossip.interval_s)
            called = self.receiver.heard()
            for peer in self._evidence.look(self.sender.heard(), called):
                membership.reachable(peer)
            for peer in self.sender.dialled_in_vain():
                if peer not in called:
                    membership.unreachable(peer)

    async def _follow_addresses(self) -> None:
        """Tell the sender who is elsewhere than it was."""
        async with self.kv.watch(SHUFFLE_ADDR_KEY) as events:
            async for event in events:
                if event.key == SHUFFLE_ADDR_KEY and event.value is not None:
                    self.sender.peer_moved(event.node, event.value)

    async def _follow_own_lives(self) -> None:
        """Have the sender, and the next process, outlive each incarnation that this one takes."""
        async with self.watch_members() as members:
            async for member in members:
                if member.node == self.id:
                    self.sender.outlive(member.incarnation)
                    if self._life is not None:
                        await anyio.to_thread.run_sync(self._life.note, member.incarnation)

    def _make_prober(self) -> Prober:
        return make_prober(self.id, self.config.shuffle, self._keyring, self._network)

    def _require(self, part: _T | None) -> _T:
        if part is None:
            raise ClosedError("a Node works inside its `async with` block")
        return part


async def _fixed(node: NodeId, peers: Mapping[str, str]) -> ClusterKv:
    """A KV of what is known beforehand."""
    kv = InMemoryKv(node)
    for peer, addr in peers.items():
        await kv.for_node(peer).write(SHUFFLE_ADDR_KEY, addr)
    return kv
