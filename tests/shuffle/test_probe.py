"""Trying receivers: whom it reaches, what it says of those that it does not, and what it leaves."""

import socket

import anyio
import anyio.to_thread
import pytest

from laminar.config import ShuffleConfig
from laminar.model import NodeId
from laminar.net.tcp import TcpNetwork
from laminar.shuffle.messages import PROBE_INCARNATION, Data
from laminar.shuffle.probe import Prober
from laminar.shuffle.reach import Reach
from laminar.shuffle.receiver import ShuffleReceiver
from laminar.shuffle.sender import ShuffleSender
from tests.wiring import (
    QUICK,
    Raw,
    eventually,
    free_addr,
    limited,
    numbered,
    opening,
    silent_listener,
)

KEY, OTHER = bytes(32), bytes(range(32))


def prober(node="doctor", cluster="laminar", keys=(), timeout_s=5.0):
    return Prober(NodeId(node), cluster, keys, TcpNetwork(), timeout_s)


def receiver(**settings):
    return ShuffleReceiver.bind("b", "127.0.0.1:0", config=ShuffleConfig(**settings))


@limited
async def test_a_receiver_is_reached_and_left():
    async with receiver() as b:
        probe = await prober().probe(b.local_addr)
        assert (probe.reach, probe.node) == (Reach.GREETED, "b")
        await eventually(lambda: not b.statistics().peers)
        assert not b.statistics().drops


@limited
async def test_with_the_same_key():
    async with receiver(keys=(OTHER, KEY)) as b:
        assert (await prober(keys=(KEY,)).probe(b.local_addr)).reach is Reach.GREETED


@limited
@pytest.mark.parametrize(
    ("own", "theirs", "reason", "words"),
    [
        ({"cluster": "other"}, {}, "cluster", "this node's cluster is not 'other'"),
        ({"keys": (KEY,)}, {"keys": (OTHER,)}, "key", "offers no key that is valid here"),
        ({}, {"keys": (OTHER,)}, "key", "offers no key, and this node asks for one"),
        ({"keys": (KEY,)}, {}, "key", "doctor asks for a key, and this node has no"),
        ({"node": "b"}, {}, "identity", "b is this node's own id"),
    ],
)
async def test_a_refusal_is_told_as_it_was_said(own, theirs, reason, words):
    async with receiver(**theirs) as b:
        probe = await prober(**own).probe(b.local_addr)
    assert (probe.reach, probe.reason, probe.told) == (Reach.CONNECTED, reason, True)
    assert words in probe.detail


@limited
async def test_nobody_is_there():
    probe = await prober().probe(free_addr())
    assert (probe.reach, probe.reason) == (Reach.NOWHERE, "network")
    assert "cannot connect" in probe.detail


@limited
async def test_what_is_no_address():
    probe = await prober().probe("nowhere in particular")
    assert (probe.reach, probe.reason) == (Reach.NOWHERE, "address")
    assert "nowhere in particular" in probe.detail


@limited
async def test_somebody_says_nothing():
    with silent_listener() as addr:
        probe = await prober(timeout_s=0.05).probe(addr)
    assert (probe.reach, probe.reason) == (Reach.CONNECTED, "timeout")


@limited
@pytest.mark.parametrize(
    ("said", "reason"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "magic"), (b"", "network")]
)
async def test_somebody_else_answers(said, reason):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            stream, _ = server.accept()
            with stream:
                stream.recv(4096)
                stream.sendall(said)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, answer)
            probe = await prober().probe(f"127.0.0.1:{server.getsockname()[1]}")
    assert (probe.reach, probe.reason) == (Reach.CONNECTED, reason)


@limited
async def test_a_probe_is_no_sign_of_life_and_none_of_death():
    async with receiver() as b, b.watch_peers() as peers:
        await prober("a").probe(b.local_addr)
        await eventually(lambda: not b.statistics().peers)
        probe = {"node": "a", "channel": None, "incarnation": PROBE_INCARNATION}
        broken = await Raw.greeted(b.local_addr, **probe)
        await eventually(lambda: b.statistics().peers)
        assert (b.is_alive("a"), b.heard()) == (False, {})
        broken.stream.close()
        await eventually(lambda: not b.statistics().peers)
        sends = await Raw.greeted(b.local_addr, **probe)
        await sends.send(opening("orders"))
        await sends.cut_off()
        assert b.statistics().drops == {"channel": 1}
        await Raw.greeted(b.local_addr, "c", incarnation=5)
        assert (await anext(peers)).peer == "c"


@limited
async def test_no_session_of_the_same_node_is_disturbed():
    async with (
        ShuffleReceiver.bind("b", "127.0.0.1:0", config=QUICK) as b,
        ShuffleSender("a", config=QUICK) as a,
    ):
        a.register_peer("b", b.local_addr)
        await a.send_to("b", Data(numbered(0, 1)))
        await b.recv()
        assert (await prober("a").probe(b.local_addr)).reach is Reach.GREETED
        await a.send_to("b", Data(numbered(1, 1)))
        await b.recv()
        assert a.statistics().peers["b"].connections == 1
