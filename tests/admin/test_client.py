"""Asking servers of real nodes, and others that are none."""

from contextlib import asynccontextmanager

import anyio
import pytest

from laminar.admin import client as module
from laminar.admin.client import AdminClient
from laminar.admin.server import Admin
from laminar.config import GossipConfig
from laminar.errors import (
    AdminRefusedError,
    ClosedError,
    ConfigError,
    PeerLostError,
    PeerUnreachableError,
    ProtocolError,
)
from laminar.node.config import NodeConfig
from laminar.node.node import Node
from tests.wiring import free_addr, limited, silent_listener

QUICK = GossipConfig(interval_s=0.02)


@asynccontextmanager
async def asked():
    async with (
        Node(NodeConfig("a", gossip=QUICK)) as node,
        Admin(node, "127.0.0.1:0") as admin,
        AdminClient(admin.local_addr) as client,
    ):
        yield node, admin, client


@asynccontextmanager
async def answering(*answers):
    """A client of somebody who says these bytes, whatever it is asked, and hangs up."""
    left = list(answers)

    async def serve(stream):
        async with stream:
            await stream.receive()
            await stream.send(left.pop(0))

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with AdminClient(f"127.0.0.1:{port}") as client:
            yield client
        tasks.cancel_scope.cancel()


def http(body, status="200 OK", length=None):
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode() + body


@limited
async def test_an_answer_is_what_json_has():
    async with asked() as (node, _, client):
        assert (await client.get("/healthz"))["addr"] == node.local_addr
        assert set(await client.get("/kv", prefix="shuffle:")) == {"a"}


@limited
async def test_a_watch_tells_changes_and_can_be_left():
    async with asked() as (node, _, client):
        async with client.follow("/kv", prefix="k", watch="1") as events:
            await node.kv.write("k", "v")
            assert await anext(events) == {"node": "a", "key": "k", "value": "v"}
            await node.kv.delete("k")
            assert (await anext(events))["value"] is None
        assert await client.get("/kv", prefix="k") == {}


@limited
async def test_heartbeats_are_no_changes():
    async with answering(http(b'\n\n{"a":1}\n\n')) as client, client.follow("/kv") as events:
        assert [event async for event in events] == [{"a": 1}]


@limited
async def test_a_refusal_has_the_reason_and_the_status():
    async with asked() as (_, _, client):
        with pytest.raises(AdminRefusedError, match="node a has no key 'k'") as refused:
            await client.get("/kv/a/k")
        assert refused.value.status == 404


@limited
async def test_nobody_answers():
    async with AdminClient(free_addr()) as client:
        with pytest.raises(PeerUnreachableError, match="is `laminar node` running there"):
            await client.get("/members")


@limited
async def test_somebody_says_nothing(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.05)
    with silent_listener() as addr:
        async with AdminClient(addr) as client:
            with pytest.raises(PeerLostError, match="has said nothing"):
                await client.get("/members")


@limited
@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        http(b"<html>"),
        http(b"<html>", "404 Not Found"),
        http(b"[1]", "500 Internal Server Error"),
        http(b"", "302 Found"),
    ],
)
async def test_somebody_else_answers(said):
    async with answering(said) as client:
        with pytest.raises(ProtocolError, match="no Laminar node's admin server") as raised:
            await client.get("/members")
        assert "\n" not in str(raised.value)


@limited
async def test_a_node_that_dies_within_an_answer():
    async with answering(http(b"[", length=9)) as client:
        with pytest.raises(PeerLostError, match="hung up"):
            await client.get("/members")


@limited
async def test_what_is_too_large(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 100)
    async with answering(http(b'"' + b"x" * 200 + b'"')) as client:
        with pytest.raises(ProtocolError, match="more than 100 bytes"):
            await client.get("/members")


@limited
async def test_a_line_without_an_end(monkeypatch):
    monkeypatch.setattr(module, "LINE_BYTES_MAX", 1000)
    async with answering(http(b"x" * 100_000)) as client, client.follow("/kv") as events:
        with pytest.raises(ProtocolError, match="a line without an end"):
            await anext(events)


@limited
async def test_it_is_used_as_it_is_meant():
    with pytest.raises(ConfigError):
        AdminClient("nowhere")
    client = AdminClient(free_addr())
    with pytest.raises(ClosedError):
        await client.get("/")
    async with client:
        with pytest.raises(ClosedError):
            await client.__aenter__()
