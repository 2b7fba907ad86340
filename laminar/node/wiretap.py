"""A network of datagrams that takes notes of who is heard, and of what would be refused."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass

import anyio

from laminar.cluster.gossip.codec import decode
from laminar.cluster.keyring import Keyring
from laminar.cluster.seal import LIFE_BYTES, DatagramSealer
from laminar.config import DatagramConfig
from laminar.errors import ProtocolError
from laminar.model import NodeId
from laminar.net.datagram import DatagramNetwork, DatagramSocket

SOURCES_MAX = 256
"""Most addresses, and most nodes, that notes are taken of."""


@dataclass(slots=True)
class Heard:
    """What came from one node itself."""

    addr: str
    """Where from, at last."""
    datagrams: int = 0
    answers: int = 0
    """Those among them that answer what was sent from here."""


class Wiretap:
    """Hands out sockets of another network, and reads along with its own copy of the keys."""

    def __init__(
        self,
        network: DatagramNetwork,
        local: NodeId,
        cluster: str,
        keyring: Keyring | None,
        config: DatagramConfig,
    ) -> None:
        self.heard: dict[NodeId, Heard] = {}
        self.refused: Counter[tuple[str, str]] = Counter()
        """Datagrams by the reason and the address that they came from."""
        self._network = network
        life = secrets.token_bytes(LIFE_BYTES)
        self._sealer = DatagramSealer(cluster, local, life, keyring, config)

    async def bind(self, addr: str) -> DatagramSocket:
        """A socket of the other network that is listened to."""
        return _TappedSocket(await self._network.bind(addr), self)

    async def resolve(self, addr: str) -> list[str]:
        """As the other network does."""
        return await self._network.resolve(addr)

    def answered(self, addr: str) -> NodeId | None:
        """Who has answered from ``addr``, if anybody has."""
        for node, heard in self.heard.items():
            if heard.answers and heard.addr == addr:
                return node
        return None

    def note(self, source: str, datagram: bytes) -> None:
        """Take notes of a datagram that came from the address ``source``."""
        try:
            sender, payload = self._sealer.open(datagram, source, anyio.current_time())
            message = decode(payload)
        except ProtocolError as error:
            at = (error.reason, source)
            if at in self.refused or len(self.refused) < SOURCES_MAX:
                self.refused[at] += 1
            return
        if sender in self.heard or len(self.heard) < SOURCES_MAX:
            heard = self.heard.setdefault(sender, Heard(source))
            heard.addr = source
            heard.datagrams += 1
            heard.answers += bool(message.echo)


class _TappedSocket:
    """A socket whose datagrams are noted."""

    def __init__(self, inner: DatagramSocket, tap: Wiretap) -> None:
        self._inner = inner
        self._tap = tap

    @property
    def local_addr(self) -> str:
        return self._inner.local_addr

    async def send_to(self, addr: str, datagram: bytes) -> None:
        await self._inner.send_to(addr, datagram)

    async def receive(self) -> tuple[str, bytes]:
        source, datagram = await self._inner.receive()
        self._tap.note(source, datagram)
        return source, datagram

    def close(self) -> None:
        self._inner.close()
