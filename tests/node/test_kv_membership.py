"""Members read off a KV."""

import pytest

from laminar.cluster.gossip.member import MemberState
from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.cluster.memory import InMemoryKv
from laminar.errors import ClosedError
from laminar.node.kv_membership import KvMembership
from tests.wiring import eventually, limited


def states(membership):
    return {node: member.state for node, member in membership.members().items()}


@limited
async def test_whoever_publishes_an_address_is_a_member_until_it_is_gone():
    kvs = InMemoryKv.cluster(["a", "b"])
    await kvs["b"].write(SHUFFLE_ADDR_KEY, "h:1")
    await kvs["b"].write(SHUFFLE_ADDR_KEY + ":other", "x")
    async with KvMembership(kvs["a"]) as membership:
        await eventually(lambda: states(membership) == {"b": MemberState.ALIVE})
        assert membership.members()["b"].addr == "h:1"
        await kvs["b"].delete(SHUFFLE_ADDR_KEY)
        await eventually(lambda: states(membership) == {"b": MemberState.LEFT})
        await kvs["b"].write(SHUFFLE_ADDR_KEY, "h:2")
        await eventually(lambda: states(membership) == {"b": MemberState.ALIVE})
        assert membership.members()["b"].addr == "h:2"


@limited
async def test_a_broken_connection_makes_a_member_suspect():
    kvs = InMemoryKv.cluster(["a", "b"])
    for kv in kvs.values():
        await kv.write(SHUFFLE_ADDR_KEY, "h:1")
    async with KvMembership(kvs["a"]) as membership, membership.watch_members() as members:
        await eventually(lambda: len(states(membership)) == 2)
        for node in ("a", "b", "nobody"):
            membership.unreachable(node)
        assert states(membership) == {"a": MemberState.ALIVE, "b": MemberState.SUSPECT}
        told = {}
        while told != states(membership):
            member = await anext(members)
            told[member.node] = member.state
        membership.reachable("b")
        assert (await anext(members)).state is MemberState.ALIVE
    with pytest.raises(ClosedError):
        await anext(members)


@limited
async def test_one_that_left_is_not_brought_back_by_its_connection():
    kvs = InMemoryKv.cluster(["a", "b"])
    await kvs["b"].write(SHUFFLE_ADDR_KEY, "h:1")
    async with KvMembership(kvs["a"]) as membership:
        await eventually(lambda: "b" in states(membership))
        await kvs["b"].delete(SHUFFLE_ADDR_KEY)
        await eventually(lambda: states(membership)["b"] is MemberState.LEFT)
        membership.reachable("b")
        membership.unreachable("b")
        assert states(membership)["b"] is MemberState.LEFT
