"""``GossipKv`` keeps the contract, over real UDP."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from laminar.cluster.gossip.agent import GossipAgent
from laminar.config import GossipConfig
from laminar.errors import ConfigError
from laminar.testing.kv import KV_CHECKS, run_check
from tests.wiring import eventually, limited

QUICK = GossipConfig(interval_s=0.01, leave_timeout_s=0.05)


@asynccontextmanager
async def gossip_cluster(nodes):
    async with AsyncExitStack() as stack:
        agents, seeds = {}, []
        for node in nodes:
            agent = GossipAgent(node, "127.0.0.1:0", seeds=seeds, config=QUICK)
            agents[node] = await stack.enter_async_context(agent)
            seeds = [agent.local_addr]
        yield {node: agent.kv for node, agent in agents.items()}


@pytest.mark.parametrize("check", KV_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check):
    await run_check(check, gossip_cluster)


@limited
async def test_a_short_key_leaves_room_for_a_larger_value():
    async with gossip_cluster(["a", "b"]) as kvs:
        value = "x" * (kvs["a"].value_bytes_max + 100)
        await kvs["a"].write("k", value)
        async with kvs["b"].watch() as events:
            assert (await anext(events)).value == value
        with pytest.raises(ConfigError, match=r"must fit one datagram: at most \d+ bytes"):
            await kvs["a"].write("k", value * 2)


@limited
async def test_keys_of_its_own_are_hidden_and_refused():
    async with gossip_cluster(["a"]) as kvs:
        assert await kvs["a"].scan() == {}
        assert await kvs["a"].read_from("a", "gossip:addr") is None
        for change in (kvs["a"].write("gossip:addr", "x"), kvs["a"].delete("gossip:addr")):
            with pytest.raises(ConfigError, match="reserved"):
                await change


@limited
async def test_a_key_with_a_time_to_live_goes_by_itself():
    async with gossip_cluster(["a", "b"]) as kvs, kvs["b"].watch() as events:
        await kvs["a"].write("k", "1", ttl_s=0.1)
        assert (await anext(events)).value == "1"
        assert (await anext(events)).value is None
        assert await kvs["b"].read_from("a", "k") is None


@limited
async def test_the_keys_of_who_left_are_gone():
    async with gossip_cluster(["a"]) as kvs:
        a = kvs["a"]
        config = GossipConfig(interval_s=0.01)
        seed = a._core.members()["a"].addr
        async with GossipAgent("b", "127.0.0.1:0", seeds=[seed], config=config) as agent:
            await agent.kv.write("k", "1")
            async with a.watch() as events:
                assert (await anext(events)).value == "1"
        await eventually(lambda: a._core.read("b", "k", 0.0) is None)
        assert await a.scan() == {}
