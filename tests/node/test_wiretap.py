"""Notes of datagrams that come, by who sent them, and of those that would be refused."""

from contextlib import asynccontextmanager

import pytest

from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.keyring import Keyring
from laminar.config import DatagramConfig, GossipConfig
from laminar.errors import StreamBrokenError
from laminar.model import NodeId
from laminar.net.udp import UdpNetwork
from laminar.node import wiretap
from laminar.node.wiretap import Wiretap
from tests.wiring import eventually, limited

QUICK = GossipConfig(interval_s=0.02, leave_timeout_s=0.2)
KEY = bytes(32)


def tap(cluster="laminar", keys=()):
    ring = Keyring(keys) if keys else None
    return Wiretap(UdpNetwork(), NodeId("d"), cluster, ring, DatagramConfig())


@asynccontextmanager
async def listening(tapped, **how):
    async with GossipAgent("d", "127.0.0.1:0", config=QUICK, network=tapped, **how) as agent:
        yield agent


@limited
async def test_who_answers_and_who_only_speaks():
    tapped = tap()
    async with (
        listening(tapped) as agent,
        GossipAgent("n", "127.0.0.1:0", seeds=[agent.local_addr], config=QUICK) as node,
    ):
        await eventually(lambda: "n" in tapped.heard)
        assert tapped.heard["n"].addr == node.local_addr
        await agent.greet(node.local_addr)
        await eventually(lambda: tapped.answered(node.local_addr) == "n")
        assert tapped.heard["n"].datagrams >= tapped.heard["n"].answers > 0
        assert tapped.answered("127.0.0.1:1") is None
        assert not tapped.refused


@limited
async def test_what_is_refused_is_noted_with_its_source(monkeypatch):
    monkeypatch.setattr(wiretap, "SOURCES_MAX", 1)
    tapped = tap(keys=(KEY,))
    async with (
        listening(tapped, keyring=Keyring([KEY])) as agent,
        GossipAgent("n", "127.0.0.1:0", seeds=[agent.local_addr], config=QUICK) as node,
        GossipAgent("m", "127.0.0.1:0", seeds=[agent.local_addr], config=QUICK) as other,
    ):
        await eventually(lambda: sum(agent.seal_statistics().refused.values()) > 5)
        ((reason, source),) = tapped.refused
        assert reason == "unsealed"
        assert source in (node.local_addr, other.local_addr)
        assert tapped.heard == {}


@limited
async def test_names_are_resolved_as_ever():
    assert await tap().resolve("127.0.0.1:9") == ["127.0.0.1:9"]
    with pytest.raises(StreamBrokenError):
        await tap().resolve("nobody.invalid:9")
