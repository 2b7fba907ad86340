"""The admin server of real nodes, asked over real sockets."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012

import json
import socket

import aiohttp
import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from laminar.admin.server import Admin
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.kv import SHUFFLE_ADDR_KEY
from laminar.cluster.memory import InMemoryKv
from laminar.config import AdminConfig
from laminar.errors import ClosedError, ConfigError, NodeIdTakenError, StreamBrokenError
from laminar.net.address import parse_addr
from laminar.node.node import Node
from laminar.shuffle.messages import Data
from tests.admin.asking import admin_of, ask, asked, config_of, refused
from tests.conftest import BACKENDS
from tests.wiring import MIB, eventually, free_addr, limited, numbered

# -- what there is ----------------------------------------------------------------------------


@limited
async def test_the_index_names_everything():
    async with asked() as (_, client), client.get("/") as answer:
        text = await answer.text()
        assert (answer.status, answer.content_type) == (200, "text/plain")
        assert "node a" in text
        for path in ("/healthz", "/readyz", "/members", "/statistics", "/metrics", "/kv", "/keys"):
            assert f"GET {path}" in text


@limited
async def test_a_node_that_runs_is_healthy():
    async with asked() as (node, client):
        assert await ask(client, "/healthz") == {"node": "a", "addr": node.local_addr}
        async with client.head("/healthz") as answer:
            assert answer.status == 200


@limited
async def test_a_node_that_does_not_run_is_not():
    node = Node(config_of("a"))
    async with admin_of(node) as (_, client):
        for path in ("/healthz", "/readyz", "/members", "/statistics", "/metrics", "/kv"):
            assert "async with" in await refused(client, path, 503)
        async with node:
            await ask(client, "/healthz")


@limited
async def test_a_node_that_lost_its_id_says_why():
    async with Node(config_of("seed")) as seed:
        first = Node(config_of("a", seed.local_addr))
        async with admin_of(first) as (_, client):
            with pytest.raises(NodeIdTakenError):
                async with first:
                    # Before, it might take the other one for a life of its own.
                    await eventually(lambda: first.statistics().discovery.gossip.rounds > 30)
                    async with Node(config_of("a", seed.local_addr)):
                        await anyio.sleep_forever()
            for path in ("/healthz", "/readyz"):
                assert await refused(client, path, 503) == str(first.error)


@limited
async def test_a_node_is_ready_when_enough_can_be_sent_to():
    async with asked() as (node, client):
        alone = {"min_members": 1, "ready": ["a"], "missing": {}}
        await node.ready(1)
        assert await ask(client, "/readyz") == alone
        assert await ask(client, "/readyz?min_members=2", 503) == {
            "error": "1 of 2 members are alive and can be sent to",
            **alone,
            "min_members": 2,
        }
        async with Node(config_of("b", node.local_addr)) as b:
            await node.ready(2)
            assert (await ask(client, "/readyz?min_members=2"))["ready"] == ["a", "b"]
            await b.kv.delete(SHUFFLE_ADDR_KEY)
            await eventually_missing(client, {"b": f"has not published {SHUFFLE_ADDR_KEY}"})
        await eventually_missing(client, {"b": "left"})


async def eventually_missing(client, missing):
    while (await ask(client, "/readyz"))["missing"] != missing:
        pass


@limited
async def test_members():
    async with asked() as (node, client), Node(config_of("b", node.local_addr)) as b:
        await node.ready(2)
        answer = await ask(client, "/members")
        assert answer["node"] == "a"
        mine, other = answer["members"]
        assert (mine["node"], mine["state"], mine["addr"]) == ("a", "alive", node.local_addr)
        assert other == {
            "node": "b",
            "incarnation": b.members()["b"].incarnation,
            "state": "alive",
            "addr": b.local_addr,
        }


@limited
async def test_all_statistics():
    async with asked() as (node, client), Node(config_of("b", node.local_addr)) as b:
        await node.ready(2)
        await node.sender.send_to("b", Data(numbered(0, 10), "orders"))
        await node.sender.flush()
        answer = await ask(client, "/statistics")
        assert (answer["node"], answer["addr"]) == ("a", node.local_addr)
        assert answer["members"]["b"]["state"] == "alive"
        channel = answer["sender"]["peers"]["b"]["channels"]["orders"]
        assert (channel["frames"], channel["batches"]) == (1, 1)
        assert answer["discovery"]["gossip"]["members"]["alive"] == 2
        await b.receiver.recv()


@limited
async def test_metrics_in_both_formats():
    async with asked() as (node, client), Node(config_of("b", node.local_addr)) as b:
        await node.ready(2)
        await node.sender.send_to("b", Data(numbered(0, 10), "orders"))
        await node.sender.flush()
        async with client.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            families = text_string_to_metric_families(await answer.text())
            found = {sample.name: sample for family in families for sample in family.samples}
        sent = found["laminar_shuffle_sent_frames_total"]
        assert (sent.labels, sent.value) == ({"peer": "b", "channel": "orders"}, 1)
        assert found["process_open_fds"].value > 0
        open_metrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with client.get("/metrics", headers=open_metrics) as answer:
            assert answer.content_type == "application/openmetrics-text"
            assert (await answer.text()).endswith("# EOF\n")
        await b.receiver.recv()


@limited
async def test_what_nodes_tell_of_themselves():
    async with asked() as (node, client):
        await node.kv.write("rack", "7")
        await node.kv.write("a/b c", "slashed")
        everything = await ask(client, "/kv")
        assert everything == {
            "a": {SHUFFLE_ADDR_KEY: node.local_addr, "rack": "7", "a/b c": "slashed"}
        }
        assert await ask(client, "/kv", params={"prefix": "ra"}) == {"a": {"rack": "7"}}
        assert await ask(client, "/kv?prefix=nothing") == {}
        assert await ask(client, "/kv/a/rack") == {"node": "a", "key": "rack", "value": "7"}
        assert (await ask(client, "/kv/a/a/b%20c"))["value"] == "slashed"
        assert await refused(client, "/kv/a/color", 404) == "node a has no key 'color'"


@limited
async def test_whose_keys_there_are_none_of():
    async with (
        Node(config_of("a")) as a,
        admin_of(a) as (_, client),
        Node(config_of("b", a.local_addr)),
    ):
        async with Node(config_of("c", a.local_addr)):
            await a.ready(3)
            assert await refused(client, "/kv/c/rack", 404) == "node c has no key 'rack'"
            told = await refused(client, "/kv/d/rack", 404)
            assert told == "no node d is known here; known are a, b, c"
        await eventually(lambda: a.members()["c"].state is MemberState.LEFT)
        told = await refused(client, "/kv/c/rack", 404)
        assert told == "node c has left, and its keys with it"


@limited
async def test_of_many_nodes_a_few_are_named():
    kv = InMemoryKv("a")
    for number in range(20):
        await kv.for_node(f"n{number:02}").write("rack", "7")
    async with asked(kv=kv) as (_, client):
        told = await refused(client, "/kv/x/rack", 404)
        assert told.startswith("no node x is known here; known are a, n00, n01")
        assert told.endswith(", n08 and 11 more")


# -- bad requests -----------------------------------------------------------------------------


@limited
async def test_requests_that_make_no_sense_are_told_so():
    async with asked() as (_, client):
        assert await refused(client, "/nowhere", 404) == "there is nothing at /nowhere; see /"
        assert "takes none" in await refused(client, "/healthz?verbose")
        assert "it takes watch" in await refused(client, "/members?watched")
        assert "it takes prefix and watch" in await refused(client, "/kv?suffix=x")
        assert await refused(client, "/kv?watch=maybe") == "watch is 0 or 1, got 'maybe'"
        for count in ("-1", "1e3", "", "٣", "9" * 10):
            assert "is a number" in await refused(client, "/readyz", params={"min_members": count})
        assert "printable ASCII" in await refused(client, "/kv/%C3%A9/key")
        async with client.post("/members") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET")
            assert "error" in await answer.json()
        async with client.get("/healthz", headers={"X-Long": "x" * 9000}) as answer:
            assert answer.status == 400


@limited
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "10.0.0.1", ""]
)
async def test_a_name_that_was_made_to_resolve_to_this_machine_gets_nothing(host):
    async with asked() as (_, client):
        error = await refused(client, "/members", 403, headers={"Host": host})
        assert "Host header" in error


@limited
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7947", "127.9.9.9:1", "[::1]:80"])
async def test_this_machine_by_its_own_names_is_served(host):
    async with asked() as (_, client):
        await ask(client, "/healthz", headers={"Host": host})


# -- who may listen where ---------------------------------------------------------------------


@limited
async def test_other_machines_are_let_in_only_by_name():
    node = Node(config_of("a"))
    with pytest.raises(ConfigError, match="allow_remote"):
        async with Admin(node, "0.0.0.0:0"):
            pass
    async with Admin(node, "0.0.0.0:0", config=AdminConfig(allow_remote=True)) as admin, node:
        _, port = parse_addr(admin.local_addr)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            await ask(client, "/healthz", headers={"Host": "a.example:7947"})
            # To change something takes this machine, and its own name.
            async with client.post("/members", headers={"Host": "a.example"}) as answer:
                assert answer.status == 403


@limited
async def test_an_address_that_is_taken():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with pytest.raises(StreamBrokenError, match="cannot listen"):
            async with Admin(Node(config_of("a")), f"127.0.0.1:{sock.getsockname()[1]}"):
                pass


async def test_what_is_no_address():
    with pytest.raises(ConfigError, match="address"):
        Admin(Node(config_of("a")), "7947")


@limited
async def test_it_is_entered_once_and_listens_inside_its_block():
    admin = Admin(Node(config_of("a")), free_addr())
    with pytest.raises(ClosedError):
        admin.local_addr  # noqa: B018
    async with admin:
        assert admin.local_addr
    with pytest.raises(ClosedError, match="once"):
        await admin.__aenter__()


@pytest.mark.parametrize("anyio_backend", [BACKENDS["trio"]], ids=["trio"])
async def test_trio_is_refused():
    with pytest.raises(ConfigError, match="asyncio only"):
        await Admin(Node(config_of("a")), "127.0.0.1:0").__aenter__()


# -- following --------------------------------------------------------------------------------


async def line(answer):
    return json.loads(await answer.content.readline())


@limited
async def test_members_are_followed():
    async with asked() as (node, client), client.get("/members?watch") as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        assert (await line(answer))["node"] == "a"
        async with Node(config_of("b", node.local_addr)):
            states = [(await line(answer))["state"]]
            while states[-1] != "alive":
                states.append((await line(answer))["state"])
        while states[-1] != "left":
            states.append((await line(answer))["state"])


@limited
async def test_keys_are_followed_deletions_included():
    async with asked() as (node, client):
        await node.kv.write("job:1", "begun")
        async with client.get("/kv?watch=1&prefix=job:") as answer:
            assert await line(answer) == {"node": "a", "key": "job:1", "value": "begun"}
            await node.kv.write("other", "x")
            await node.kv.write("job:1", "done")
            assert await line(answer) == {"node": "a", "key": "job:1", "value": "done"}
            await node.kv.delete("job:1")
            assert await line(answer) == {"node": "a", "key": "job:1", "value": None}


@limited
async def test_a_watcher_to_whom_there_is_nothing_to_tell_gets_empty_lines():
    config = AdminConfig(watch_heartbeat_s=0.01)
    async with asked(config) as (node, client), client.get("/kv?watch&prefix=job:") as answer:
        assert await answer.content.readline() == b"\n"
        assert await answer.content.readline() == b"\n"
        await node.kv.write("job:1", "begun")
        while (text := await answer.content.readline()) == b"\n":
            pass
        assert json.loads(text)["value"] == "begun"


@limited
async def test_watchers_are_limited_and_one_that_goes_makes_room():
    async with (
        asked(AdminConfig(watchers_max=2)) as (_, client),
        client.get("/members?watch") as first,
        client.get("/kv?watch") as second,
    ):
        assert (first.status, second.status) == (200, 200)
        error = await refused(client, "/members?watch", 503)
        assert error == "there are 2 watchers already"
        await ask(client, "/members")
        first.close()
        await room_for_a_watcher(client)


async def room_for_a_watcher(client):
    while True:
        async with client.get("/members?watch") as answer:
            if answer.status == 200:
                return


@limited
async def test_a_watcher_that_takes_nothing_is_hung_up_on():
    kv = InMemoryKv("a")
    config = AdminConfig(watch_stall_s=0.05, watchers_max=1)
    async with asked(config, kv=kv) as (_, client):
        with stalled_watcher(client, "/kv?watch&prefix=large:") as sock:
            await anyio.wait_readable(sock)  # it is being answered
            value = "x" * (kv.value_bytes_max - 1)
            for round_ in range(16 * MIB // len(value)):  # more than the kernel takes
                await kv.write(f"large:{round_}", value)
            await room_for_a_watcher(client)


def stalled_watcher(client, path):
    """One that asks, and reads nothing."""
    host, port = parse_addr(str(client._base_url.authority))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((host, port))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return sock


# -- the end ----------------------------------------------------------------------------------


@limited
async def test_closing_ends_the_answers_to_watchers():
    async with Node(config_of("a")) as node:
        client = aiohttp.ClientSession()
        async with Admin(node, "127.0.0.1:0") as admin:
            addr = admin.local_addr
            answer = await client.get(f"http://{addr}/members?watch")
            assert (await line(answer))["node"] == "a"
            began = anyio.current_time()
        assert anyio.current_time() - began < AdminConfig().close_timeout_s
        assert await answer.content.readline() == b""
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(f"http://{addr}/healthz")
        await client.close()


@limited
async def test_connections_are_limited():
    async with asked(AdminConfig(connections_max=1)) as (_, client):
        await ask(client, "/healthz")  # and the connection is kept
        async with aiohttp.ClientSession(client._base_url) as other:
            error = await refused(other, "/healthz", 503)
            assert error == "there are too many connections already"
        await ask(client, "/healthz")


@limited
async def test_it_can_be_cancelled_while_it_serves():
    async with Node(config_of("a")) as node, aiohttp.ClientSession() as client:
        with anyio.CancelScope() as scope:
            async with Admin(node, "127.0.0.1:0") as admin:
                url = f"http://{admin.local_addr}"
                answer = await client.get(f"{url}/members?watch")
                await line(answer)
                await ask(client, f"{url}/healthz")  # and the connection is kept
                scope.cancel()
                await anyio.sleep_forever()
        assert await answer.content.readline() == b""
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(f"{url}/healthz")
