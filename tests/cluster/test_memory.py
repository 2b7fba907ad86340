"""``InMemoryKv`` keeps the contract, and what it adds to it."""

from contextlib import asynccontextmanager

import anyio
import pytest

from laminar.cluster import ClusterKv, InMemoryKv, KvEvent
from laminar.errors import ConfigError
from laminar.testing.kv import KV_CHECKS, check_kv, run_check


@asynccontextmanager
async def memory_cluster(nodes):
    yield InMemoryKv.cluster(nodes)


@pytest.mark.parametrize("check", KV_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check):
    await run_check(check, memory_cluster)


async def test_nodes_of_different_clusters_do_not_meet():
    first, second = InMemoryKv("a"), InMemoryKv("a")
    await first.write("k", "1")
    assert await second.read_from("a", "k") is None


async def test_for_node_shares_the_store():
    a = InMemoryKv("a")
    b = a.for_node("b")
    await a.write("k", "1")
    assert b.local_node == "b"
    assert await b.read_from("a", "k") == "1"
    assert await b.scan() == {"a": {"k": "1"}}


@pytest.mark.parametrize("node", ["", "two words", "x" * 129])
async def test_a_node_needs_a_valid_name(node):
    with pytest.raises(ConfigError):
        InMemoryKv(node)
    with pytest.raises(ConfigError):
        InMemoryKv.cluster([node])
    with pytest.raises(ConfigError):
        InMemoryKv("a").for_node(node)


async def test_a_cancelled_write_changes_nothing():
    kv: ClusterKv = InMemoryKv("a")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await kv.write("k", "1")
    assert await kv.read_from("a", "k") is None


async def test_two_watchers_each_get_everything():
    kv = InMemoryKv("a")
    async with kv.watch() as first, kv.watch("k") as second:
        await kv.write("k", "1")
        assert await anext(first) == await anext(second) == KvEvent("a", "k", "1")


async def test_a_closed_watch_is_forgotten_by_the_store():
    kv = InMemoryKv("a")
    async with kv.watch():
        assert len(kv._store.watches) == 1
    assert not kv._store.watches


async def test_a_node_without_keys_leaves_nothing_behind():
    kv = InMemoryKv("a")
    await kv.write("k", "1")
    await kv.delete("k")
    assert not kv._store.slots


async def test_the_suite_finds_a_store_that_forgets_deletions():
    class Forgetful(InMemoryKv):
        async def delete(self, key):
            pass

    @asynccontextmanager
    async def forgetful_cluster(nodes):
        yield Forgetful.cluster(nodes)

    with pytest.raises(AssertionError, match="expected None, got '2'") as failure:
        await check_kv(forgetful_cluster)
    assert failure.value.__notes__ == ["in own_writes_are_seen_at_once"]


async def test_the_suite_does_not_wait_for_ever():
    async def never_told(kvs):
        async with kvs["a"].watch() as events:
            await anext(events)

    with pytest.raises(AssertionError, match="never_told: what must come did not"):
        await run_check(never_told, memory_cluster, timeout_seconds=0.01)
