"""``Doctor``: joins a cluster for a few seconds to see why its nodes do not see each other."""

from __future__ import annotations

import platform
import re
import secrets
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
from anyio.abc import TaskGroup

import laminar
from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.kv import SHUFFLE_ADDR_KEY, KvEvent
from laminar.config import EtcdConfig
from laminar.errors import (
    ConfigError,
    KvRefusedError,
    KvUnavailableError,
    ProtocolError,
    StreamError,
)
from laminar.model import NODE_ID_LENGTH_MAX, NodeId, node_id
from laminar.net.datagram import DatagramNetwork
from laminar.net.stream import Network
from laminar.net.udp import UdpNetwork
from laminar.node.config import NodeConfig
from laminar.node.consultation import (
    ASK_KEY,
    Answer,
    Ask,
    answer_key,
    decode_answer,
    encode,
)
from laminar.node.findings import EtcdFindings, Findings, MemberFindings, SeedFindings
from laminar.node.keys import load_keyring
from laminar.node.ports import at_port_of, open_at_one_port
from laminar.node.probing import make_prober
from laminar.node.published import published
from laminar.node.wiretap import Wiretap
from laminar.shuffle.reach import Probe, Reach
from laminar.shuffle.receiver import ShuffleReceiver

DOCTOR_PREFIX: Final = "doctor-"
GREET_INTERVAL_S: Final = 0.3
"""How often those who have not answered over UDP are greeted."""

SETTLE_INTERVALS: Final = 3
"""So many intervals of the gossip without a new member, and all of them are taken to be known."""

MEMBERS_MAX: Final = 64
"""Most members that are examined."""

RESOLVE_TIMEOUT_S: Final = 3.0


def doctor_id() -> NodeId:
    """A fresh id, which no node has: ``doctor-<host>-<chance>``."""
    host = re.sub(r"[^0-9A-Za-z.-]", "-", platform.node()) or "host"
    chance = secrets.token_hex(4)
    return node_id(f"{DOCTOR_PREFIX}{host[: NODE_ID_LENGTH_MAX // 2]}-{chance}")


@dataclass(slots=True)
class _Seed:
    addr: str
    expected: NodeId | None = None
    """Who should be there, if that is known."""
    addrs: tuple[str, ...] = ()
    probe: Probe | None = None
    sent: int = 0


@dataclass(slots=True)
class _Patient:
    data_addr: str | None = None
    probe: Probe | None = None
    answer: Answer | None = None
    ahead_s: tuple[float, float] | None = None


@dataclass(slots=True)
class _Progress:
    """What is known so far, and when anything was last added."""

    seeds: list[_Seed]
    patients: dict[NodeId, _Patient] = field(default_factory=dict)
    newest_at: float = 0.0
    asked_at: float = 0.0
    nonce: str = ""
    etcd: EtcdFindings | None = None
    others: int = 0
    """Nodes of etcd that are too many to be tried."""


class Doctor:
    """Examines the cluster that ``config`` is for, as a guest with an id of its own.

    It takes part in the gossip and lets itself be connected to, but publishes no
    ``shuffle:addr``: nobody takes it for a node that rows can be sent to. Over TCP it introduces
    itself as ``config.node``, which a certificate may name, by probes that end no session. So no
    node is disturbed by it, not even one that has the id ``config.node`` itself.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        member: NodeId,
        timeout_s: float,
        network: Network | None = None,
        datagram_network: DatagramNetwork | None = None,
    ) -> None:
        """``member`` is the doctor's id in the gossip, from :func:`doctor_id`.

        Raises :class:`~laminar.errors.ConfigError` when ``config`` names files that are not what
        they should be.
        """
        self._node = node_id(config.node)
        self._member = member
        self._config = config
        self._timeout_s = timeout_s
        self._network = network
        self._keyring = load_keyring(config)
        self._tap = Wiretap(
            datagram_network or UdpNetwork(),
            member,
            config.shuffle.cluster,
            self._keyring,
            config.datagrams,
        )
        self._prober = make_prober(self._node, config.shuffle, self._keyring, network)
        self._gossips = not (config.peers or config.etcd)
        named = [_Seed(addr, NodeId(node)) for node, addr in config.peers.items()]
        self._progress = _Progress([*map(_Seed, dict.fromkeys(config.seeds)), *named])
        self._changed = anyio.Event()

    async def examine(self) -> Findings:
        """Look at everything, for ``timeout_s`` at most.

        Raises :class:`~laminar.errors.StreamBrokenError` when the own address cannot be bound, and
        :class:`~laminar.errors.ConfigError` when it lets strangers in or others cannot reach it.
        """
        began = anyio.current_time()
        async with AsyncExitStack() as stack:
            receiver, agent = await open_at_one_port(
                self._config.listen, stack, lambda _: self._open(stack)
            )
            addr = self._config.advertise or receiver.local_addr
            if self._config.etcd is not None:
                await self._look_up(self._config.etcd)
            await self._try_seeds(began)
            if agent is not None:
                async with anyio.create_task_group() as tasks:
                    with anyio.CancelScope(deadline=began + self._timeout_s):
                        await self._look(agent, addr, tasks)
                    tasks.cancel_scope.cancel()
            return self._findings(addr, receiver, agent, anyio.current_time() - began)

    # -- parts ------------------------------------------------------------------------------------

    async def _open(self, stack: AsyncExitStack) -> tuple[ShuffleReceiver, GossipAgent | None]:
        """Listen over TCP, and over UDP if the nodes gossip."""
        receiver = await stack.enter_async_context(self._make_receiver())
        if not self._gossips:
            return receiver, None
        listen = at_port_of(self._config.listen, receiver.local_addr)
        return receiver, await stack.enter_async_context(self._make_agent(listen))

    def _make_agent(self, listen: str) -> GossipAgent:
        config = self._config
        return GossipAgent(
            self._member,
            listen,
            seeds=config.seeds,
            advertise=config.advertise,
            cluster=config.shuffle.cluster,
            keyring=self._keyring,
            guest=True,
            config=config.gossip,
            datagrams=config.datagrams,
            network=self._tap,
        )

    def _make_receiver(self) -> ShuffleReceiver:
        config = self._config
        return ShuffleReceiver.bind(
            self._node,
            config.listen,
            config=config.shuffle,
            keyring=self._keyring,
            network=self._network,
        )

    # -- looking ----------------------------------------------------------------------------------

    async def _look_up(self, config: EtcdConfig) -> None:
        """Who has published an address in etcd: they are to be tried in the time that is left."""
        request_s, most_s = self._timeout_s / 3, self._timeout_s
        found: dict[NodeId, str] = {}
        error = ""
        try:
            with anyio.fail_after(most_s):  # there may be several requests
                found = await published(
                    replace(config, request_timeout_s=min(config.request_timeout_s, request_s))
                )
        except (KvUnavailableError, KvRefusedError, ProtocolError) as why:
            error = str(why)
        except TimeoutError:
            error = f"etcd at {', '.join(config.endpoints)} has not told all in {most_s:g} s"
        self._progress.etcd = EtcdFindings(config.endpoints, config.prefix, found, error)
        named = [_Seed(addr, node) for node, addr in sorted(found.items())]
        self._progress.seeds += named[:MEMBERS_MAX]
        self._progress.others = len(named[MEMBERS_MAX:])

    async def _try_seeds(self, began: float) -> None:
        """Their names, then TCP.

        If they are to gossip too, half of the time is left: TCP may be blocked and UDP not.
        """
        most_s = self._timeout_s / 2 if self._gossips else self._timeout_s
        with anyio.CancelScope(deadline=began + most_s):
            async with anyio.create_task_group() as tasks:
                for addr in dict.fromkeys(seed.addr for seed in self._progress.seeds):
                    tasks.start_soon(self._try_addr, addr)

    async def _look(self, agent: GossipAgent, addr: str, tasks: TaskGroup) -> None:
        """Return when there is nothing more to be seen."""
        await self._ask(agent, addr)
        tasks.start_soon(self._greet, agent)
        tasks.start_soon(self._follow_members, agent, tasks)
        tasks.start_soon(self._follow_answers, agent)
        while not self._complete(agent):
            self._changed = anyio.Event()
            with anyio.move_on_after(GREET_INTERVAL_S):
                await self._changed.wait()

    async def _ask(self, agent: GossipAgent, addr: str) -> None:
        progress = self._progress
        progress.nonce = secrets.token_hex(8)
        progress.asked_at = time.time()
        progress.newest_at = anyio.current_time()
        await agent.kv.write(ASK_KEY, encode(Ask(addr, progress.nonce)))

    async def _try_addr(self, addr: str) -> None:
        """Its name, then TCP: once, as of two probes at a time one is turned away."""
        seeds = [seed for seed in self._progress.seeds if seed.addr == addr]
        addrs: tuple[str, ...] = ()
        with suppress(StreamError, ConfigError), anyio.move_on_after(RESOLVE_TIMEOUT_S):
            addrs = tuple(dict.fromkeys(await self._tap.resolve(addr)))
        for seed in seeds:
            seed.addrs = addrs
        probe = await self._prober.probe(addr) if addrs else None
        for seed in seeds:
            seed.probe = probe

    async def _greet(self, agent: GossipAgent) -> None:
        """Speak over UDP to everybody who has not answered yet."""
        while True:
            for seed in self._progress.seeds:
                for addr in seed.addrs:
                    if self._tap.answered(addr) is None:
                        seed.sent += 1
                        await agent.greet(addr)
            for node, member in self._examined(agent).items():
                if not self._answers(node) and member.addr is not None:
                    await agent.greet(member.addr)
            await anyio.sleep(GREET_INTERVAL_S)

    async def _follow_members(self, agent: GossipAgent, tasks: TaskGroup) -> None:
        """Try TCP to every member, once it is known where it listens for data."""
        async with agent.kv.watch(SHUFFLE_ADDR_KEY) as events:
            async for event in events:
                patient = self._patient(event.node)
                if event.key == SHUFFLE_ADDR_KEY and event.value and patient is not None:
                    patient.data_addr = event.value
                    tasks.start_soon(self._try_member, patient, event.value)

    async def _try_member(self, patient: _Patient, addr: str) -> None:
        patient.probe = await self._prober.probe(addr)
        self._changed.set()

    async def _follow_answers(self, agent: GossipAgent) -> None:
        key = answer_key(self._member)
        async with agent.kv.watch(key) as events:
            async for event in events:
                if event.key == key and event.value:
                    self._take_answer(event)
                    self._changed.set()

    def _take_answer(self, event: KvEvent) -> None:
        patient = self._patient(event.node)
        try:
            answer = decode_answer(event.value or "")
        except ProtocolError as error:
            answer = Answer(self._progress.nonce, "", error.reason, error.detail, 0.0, "")
        if patient is not None and answer.nonce == self._progress.nonce:
            patient.answer = answer
            if answer.wall_s:  # it was written after the question, and before now
                latest = answer.wall_s - self._progress.asked_at
                patient.ahead_s = (answer.wall_s - time.time(), latest)

    # -- what is known ----------------------------------------------------------------------------

    def _patient(self, node: NodeId) -> _Patient | None:
        """Whom ``node`` is to the doctor; None if it is not examined."""
        patients = self._progress.patients
        if node == self._member or node.startswith(DOCTOR_PREFIX):
            return None
        if node not in patients and len(patients) < MEMBERS_MAX:
            patients[node] = _Patient()
            self._progress.newest_at = anyio.current_time()
        return patients.get(node)

    def _examined(self, agent: GossipAgent) -> dict[NodeId, Member]:
        return {
            node: member
            for node, member in agent.members().items()
            if member.state is not MemberState.LEFT and self._patient(node) is not None
        }

    def _answers(self, node: NodeId) -> bool:
        heard = self._tap.heard.get(node)
        return heard is not None and heard.answers > 0

    def _complete(self, agent: GossipAgent) -> bool:
        """Whether waiting longer would bring nothing new."""
        progress = self._progress
        members = self._examined(agent)
        settled = progress.newest_at + SETTLE_INTERVALS * self._config.gossip.interval_s
        return (
            anyio.current_time() >= settled
            and all(
                self._answers(node)
                and (patient := progress.patients[node]).probe is not None
                and patient.answer is not None
                for node, member in members.items()
                if member.state is not MemberState.DEAD
            )
            and all(self._is_clear(seed) for seed in progress.seeds)
        )

    def _is_clear(self, seed: _Seed) -> bool:
        """Whether UDP has been answered, or TCP has told why it will not be."""
        if not seed.addrs or any(self._tap.answered(addr) for addr in seed.addrs):
            return True
        probe = seed.probe
        return probe is not None and probe.reach is Reach.CONNECTED and probe.reason != "timeout"

    def _findings(
        self, addr: str, receiver: ShuffleReceiver, agent: GossipAgent | None, seconds: float
    ) -> Findings:
        config, progress = self._config, self._progress
        members = {} if agent is None else self._examined(agent)
        known = (
            0
            if agent is None
            else sum(
                member.state is not MemberState.LEFT and not node.startswith(DOCTOR_PREFIX)
                for node, member in agent.members().items()
            )
        )
        return Findings(
            node=self._node,
            member=self._member,
            addr=addr,
            cluster=config.shuffle.cluster,
            version=laminar.__version__,
            gossips=self._gossips,
            keyed=self._keyring is not None,
            seeds=tuple(self._seed_findings(seed) for seed in progress.seeds),
            members=tuple(self._member_findings(member) for _, member in sorted(members.items())),
            others=known - len(members) + progress.others,
            datagrams_refused=dict(self._tap.refused),
            connections_refused=dict(receiver.statistics().drops),
            seconds=seconds,
            etcd=progress.etcd,
        )

    def _seed_findings(self, seed: _Seed) -> SeedFindings:
        answers = [node for addr in seed.addrs if (node := self._tap.answered(addr)) is not None]
        by = answers[0] if answers else None
        return SeedFindings(seed.addr, seed.addrs, seed.probe, seed.sent, by, seed.expected)

    def _member_findings(self, member: Member) -> MemberFindings:
        patient = self._progress.patients[member.node]
        heard = self._tap.heard.get(member.node)
        return MemberFindings(
            node=member.node,
            state=member.state,
            addr=member.addr,
            data_addr=patient.data_addr,
            probe=patient.probe,
            heard=heard.datagrams if heard else 0,
            answers=heard.answers if heard else 0,
            heard_from=heard.addr if heard else None,
            answer=patient.answer,
            clock_ahead_s=patient.ahead_s,
        )
