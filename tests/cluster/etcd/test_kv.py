"""``EtcdKv`` on a real etcd that is killed, stopped, compacted and emptied under it."""

import functools
import os
import signal
import sys
from contextlib import asynccontextmanager
from itertools import count

import anyio
import pytest

from laminar.cluster.etcd import EtcdKv, slot
from laminar.cluster.etcd.messages import text
from laminar.cluster.kv import KvEvent
from laminar.config import EtcdConfig
from laminar.errors import ClosedError, ConfigError, KvUnavailableError
from laminar.testing.kv import KV_CHECKS, run_check
from tests import etcd_server
from tests.etcd_server import EtcdServer
from tests.wiring import eventually

pytestmark = etcd_server.missing

LIMIT_S = 30
PREFIXES = count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For tests that leave it running."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    yield server
    server.kill()


@pytest.fixture
def server(tmp_path):
    """For tests that do not."""
    server = EtcdServer(tmp_path)
    yield server
    server.kill()


def limited(test):
    """Starting etcd again takes its time on a busy machine."""

    @functools.wraps(test)
    async def within_limit(*args, **kwargs):
        with anyio.fail_after(LIMIT_S):
            await test(*args, **kwargs)

    return within_limit


def settings(server, **changes):
    changes = {"backoff_initial_s": 0.01, "backoff_max_s": 0.1, **changes}
    return EtcdConfig(endpoints=(server.endpoint,), **changes)


@pytest.fixture
def config(shared):
    """A cluster of its own."""
    return settings(shared, prefix=f"/test/{next(PREFIXES)}")


@pytest.mark.parametrize("check", KV_CHECKS, ids=lambda check: check.__name__)
@limited
async def test_contract(check, config):
    @asynccontextmanager
    async def etcd_cluster(nodes):
        async with EtcdKv(nodes[0], config) as first, EtcdKv(nodes[1], config) as second:
            yield {nodes[0]: first, nodes[1]: second}

    await run_check(check, etcd_cluster)


async def state_of(events, wanted):
    """Read until the events add up to ``wanted``; return them."""
    state, told = {}, []
    while state != wanted:
        event = await anext(events)
        told.append(event)
        if event.value is None:
            del state[event.node, event.key]
        else:
            state[event.node, event.key] = event.value
    return told


@limited
async def test_keys_go_with_their_node(config):
    async with EtcdKv("b", config) as b, b.watch() as events:
        async with EtcdKv("a", config) as a:
            await a.write("k", "1")
            assert await anext(events) == KvEvent("a", "k", "1")
        assert await anext(events) == KvEvent("a", "k", None)
        assert await b.scan() == {}


HOLDER = """
import sys, anyio
from laminar.cluster.etcd import EtcdKv, slot
from laminar.config import EtcdConfig

async def main():
    config = EtcdConfig(endpoints=(sys.argv[1],), prefix=sys.argv[2], lease_s=1)
    async with EtcdKv("holder", config) as kv:
        await kv.write("k", "1")
        await anyio.sleep_forever()

anyio.run(main)
"""


@limited
async def test_keys_of_a_killed_process_go_with_its_lease(config):
    command = [sys.executable, "-c", HOLDER, config.endpoints[0], config.prefix]
    async with EtcdKv("b", config) as b, b.watch() as events:
        holder = await anyio.open_process(command, stdout=None)
        assert await anext(events) == KvEvent("holder", "k", "1")
        holder.kill()
        await holder.wait()
        assert await anext(events) == KvEvent("holder", "k", None)
        assert await b.scan() == {}


@pytest.mark.parametrize("how", ["kill", "stop"])
@limited
async def test_a_watch_goes_on_when_etcd_is_back(server, how):
    config = settings(server, request_timeout_s=20)
    async with EtcdKv("a", config) as a, EtcdKv("b", config) as b, b.watch() as events:
        await a.write("gone", "1")
        await a.write("k", "1")
        await state_of(events, {("a", "gone"): "1", ("a", "k"): "1"})
        getattr(server, how)()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(a.delete, "gone")
            tasks.start_soon(a.write, "k", "2")
            await eventually(lambda: a.statistics().attempts_failed)
            await eventually(lambda: b.statistics().attempts_failed)
            await anyio.to_thread.run_sync(server.start)
        told = {(await anext(events)), (await anext(events))}
        assert told == {KvEvent("a", "gone", None), KvEvent("a", "k", "2")}
        assert b.statistics().rereads == 1
        assert b.statistics().watch_restarts >= 1
        assert a.statistics().leases_lost == 0


@limited
@pytest.mark.parametrize("compacted", [True, False])
async def test_what_happened_meanwhile_is_told(server, compacted):
    config = settings(server, request_timeout_s=20)
    async with EtcdKv("a", config) as a, EtcdKv("b", config) as b, b.watch() as events:
        await a.write("gone", "1")
        await a.write("k", "1")
        await state_of(events, {("a", "gone"): "1", ("a", "k"): "1"})
        # Hold the watch while etcd moves on.
        (follower,) = b._followers.values()
        follower._client = held = Held(follower._client)
        server.kill()
        await anyio.to_thread.run_sync(server.start)
        await a.delete("gone")
        await a.write("k", "2")
        if compacted:
            answer = await a._client.call("kv/range", {"key": text(b"x")})
            revision = answer["header"]["revision"]
            await a._client.call("kv/compaction", {"revision": revision, "physical": True})
        held.released.set()
        assert {(await anext(events)), (await anext(events))} == {
            KvEvent("a", "gone", None),
            KvEvent("a", "k", "2"),
        }
        # What is compacted cannot be told from where the watch was.
        assert b.statistics().rereads == (2 if compacted else 1)


class Held:
    """A client that begins no watch until it is released."""

    def __init__(self, client):
        self._client = client
        self.released = anyio.Event()

    def __getattr__(self, name):
        return getattr(self._client, name)

    @asynccontextmanager
    async def stream(self, *args):
        await self.released.wait()
        async with self._client.stream(*args) as messages:
            yield messages


@limited
async def test_a_store_that_lost_everything_is_filled_again(server):
    config = settings(server, lease_s=1, request_timeout_s=20)
    async with EtcdKv("a", config) as a, EtcdKv("b", config) as b, b.watch() as events:
        for number in range(20):
            await a.write("k", str(number))
        await state_of(events, {("a", "k"): "19"})
        server.kill()
        server.forget()
        await anyio.to_thread.run_sync(server.start)
        while await b.read_from("a", "k") != "19":
            pass
        assert a.statistics().leases_lost == 1
        await eventually(lambda: b.statistics().rereads == 2)
        await a.write("last", "1")
        event = await anext(events)
        while event.key != "last":
            event = await anext(events)


@limited
@pytest.mark.parametrize("finder", ["writer", "keeper"])
async def test_a_lease_that_ended_is_replaced(config, finder, monkeypatch):
    monkeypatch.setattr(slot, "RENEWALS_PER_LEASE", 1000 if finder == "keeper" else 1)
    async with EtcdKv("a", config) as a, EtcdKv("b", config) as b, b.watch() as events:
        await a.write("k", "1")
        await a.write("other", "1")
        await state_of(events, {("a", "k"): "1", ("a", "other"): "1"})
        await b._client.call("lease/revoke", {"ID": str(a._slot._lease)})
        if finder == "writer":
            await a.write("k", "1")
        while await b.scan() != {"a": {"k": "1", "other": "1"}}:
            pass
        await a.write("last", "1")
        assert await b.scan() == {"a": {"k": "1", "other": "1", "last": "1"}}
        assert a.statistics().leases_lost == 1
        assert a.statistics().keys == 3


@limited
async def test_a_key_without_a_lease_is_never_written(server):
    config = settings(server, request_timeout_s=0.2)
    async with EtcdKv("a", config) as a:
        await a.write("k", "1")
        await a._client.call("lease/revoke", {"ID": str(a._slot._lease)})
        lease = a._slot._lease
        server.kill()
        a._slot._lease = 0
        with pytest.raises(KvUnavailableError):
            await a.write("k", "2")
        await anyio.to_thread.run_sync(server.start)
        await a.write("k", "3")
        assert a._slot._lease not in (0, lease)
        found = await a._client.call("kv/range", {"key": text(b"/laminar/a/k")})
        assert found["kvs"][0]["lease"] == str(a._slot._lease)


@limited
async def test_calls_end_in_time_when_etcd_is_away(server):
    config = settings(server, request_timeout_s=0.2)
    async with EtcdKv("a", config) as a:
        server.kill()
        for call in (
            a.write("k", "1"),
            a.delete("k"),
            a.read_from("a", "k"),
            a.scan(),
        ):
            with pytest.raises(KvUnavailableError, match=r"within 0.2 s; the last attempt: http"):
                await call
    with pytest.raises(KvUnavailableError):
        async with EtcdKv("a", config):
            pass


@limited
async def test_a_silent_etcd_is_noticed(server):
    config = settings(server, request_timeout_s=0.5, watch_idle_s=0.1)
    async with EtcdKv("a", config) as a, a.watch() as events:
        await a.write("k", "1")
        assert await anext(events) == KvEvent("a", "k", "1")
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            answered = True
            while answered:  # it may answer once more
                try:
                    await a.read_from("a", "k")
                except KvUnavailableError:
                    answered = False
            await eventually(lambda: a.statistics().watch_restarts)
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        await a.write("k", "2")
        assert await anext(events) == KvEvent("a", "k", "2")


@limited
async def test_the_next_member_is_asked(shared, config):
    dead = f"http://127.0.0.1:{etcd_server.free_ports(1)[0]}"
    config = EtcdConfig(endpoints=(dead, shared.endpoint + "/"), prefix=config.prefix)
    async with EtcdKv("a", config) as a:
        await a.write("k", "1")
        assert await a.read_from("a", "k") == "1"
        assert a.statistics().attempts_failed == 1


@limited
async def test_many_keys_are_read_in_pages(config):
    few = EtcdConfig(endpoints=config.endpoints, prefix=config.prefix, page_keys_max=3)
    async with EtcdKv("a", config) as a, EtcdKv("b", few) as b:
        wanted = {f"k{number:02}": str(number) for number in range(10)}
        for key, value in wanted.items():
            await a.write(key, value)
        assert await b.scan() == {"a": wanted}
        async with b.watch() as events:
            assert [await anext(events) for _ in wanted] == [
                KvEvent("a", key, value) for key, value in wanted.items()
            ]


@limited
async def test_clusters_do_not_see_each_other(config):
    longer = EtcdConfig(endpoints=config.endpoints, prefix=config.prefix + "0")
    deeper = EtcdConfig(endpoints=config.endpoints, prefix=config.prefix + "/a")
    async with EtcdKv("a", config) as a, EtcdKv("a", longer) as b, EtcdKv("a", deeper) as c:
        await b.write("k", "1")
        await a.write("k", "2")
        assert await a.scan() == {"a": {"k": "2"}}
        assert await b.scan() == {"a": {"k": "1"}}
        assert await c.scan() == {}


@limited
async def test_foreign_keys_are_passed_over_and_counted(config):
    async with EtcdKv("a", config) as a, a.watch() as events:
        root = config.prefix.encode()
        for path, value in [(b"/a", b""), (b"/a/", b""), (b"/a b/k", b""), (b"/a/k", b"\xff")]:
            await a._client.call("kv/put", {"key": text(root + path), "value": text(value)})
        await a.write("marker", "1")
        assert await anext(events) == KvEvent("a", "marker", "1")
        assert await a.read_from("a", "k") is None
        assert await a.scan() == {"a": {"marker": "1"}}
        await eventually(lambda: a.statistics().strange_keys >= 9)


@limited
async def test_an_etcd_kv_is_used_inside_its_block(config):
    kv = EtcdKv("a", config)
    for _ in range(2):
        with pytest.raises(ClosedError):
            await kv.write("k", "1")
        with pytest.raises(ClosedError):
            await kv.scan()
        with pytest.raises(ClosedError):
            async with kv.watch():
                pass
        if not kv._entered:
            async with kv:
                await kv.write("k", "1")
    with pytest.raises(ClosedError, match="only once"):
        async with kv:
            pass
    with pytest.raises(ConfigError):
        EtcdKv("two words")


@limited
async def test_leaving_closes_the_watches(config):
    kv = EtcdKv("a", config)
    async with anyio.create_task_group() as tasks:
        async with kv:
            watch = kv.watch()
            events = await watch.__aenter__()

            async def read():
                with pytest.raises(ClosedError):
                    await anext(events)

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
        await watch.__aexit__(None, None, None)
    assert kv.statistics().watches == 0


@limited
async def test_an_error_of_the_user_is_not_wrapped(config):
    with pytest.raises(KeyError):
        async with EtcdKv("a", config) as a, a.watch():
            raise KeyError("mine")
