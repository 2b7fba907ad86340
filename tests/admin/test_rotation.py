"""The key of a whole cluster, replaced through one node's server."""

import aiohttp
import pytest

from laminar.admin.client import AdminClient
from laminar.admin.server import Admin
from laminar.config import GossipConfig, ShuffleConfig
from laminar.errors import AdminRefusedError
from laminar.node.config import NodeConfig
from laminar.node.node import Node
from tests.wiring import eventually, limited

QUICK = GossipConfig(interval_s=0.02, leave_timeout_s=0.2, key_step_timeout_s=2.0)
KEYED = ShuffleConfig(keys=(bytes(32),))


def config_of(name, *seeds, shuffle=KEYED):
    return NodeConfig(name, seeds=seeds, gossip=QUICK, shuffle=shuffle)


async def rotated(admin, **parameters):
    async with (
        AdminClient(admin.local_addr) as client,
        client.follow("/keys/rotate", method="POST", **parameters) as steps,
    ):
        return [step async for step in steps]


@limited
async def test_all_members_have_the_new_key_in_the_end():
    async with (
        Node(config_of("a")) as a,
        Admin(a, "127.0.0.1:0") as admin,
        Node(config_of("b", a.local_addr)) as b,
    ):
        await a.ready(2)
        await b.ready(2)
        *progress, outcome = await rotated(admin)
        counts = {"members": 2, "installed": 0, "using": 0, "removed": 0}
        assert progress[0].items() >= counts.items()
        assert "b" in {node for step in progress for node in step["lacking"]}
        assert progress == sorted(progress, key=lambda step: step["removed"])
        assert outcome["members"] == ["a", "b"]
        for node in (a, b):
            assert [key.hex() for key in node._keyring.ids] == [outcome["key"]]


@limited
async def test_who_is_waited_for_is_told_meanwhile_and_in_the_end():
    async with (
        Node(config_of("a")) as a,
        Admin(a, "127.0.0.1:0") as admin,
        Node(config_of("b", a.local_addr)) as b,
        Node(config_of("c", a.local_addr)),
    ):
        await a.ready(3)
        await b.ready(3)
        b.gossip._keys.on_event = _deaf
        *progress, outcome = await rotated(admin)
        waits = {"b": "it has not heard of the change (alive)"}
        assert progress[-1]["lacking"] == waits
        assert "not all members have the key" in outcome["failed"]
        assert outcome["lacking"] == waits


def _deaf(event):
    """In place of one who follows orders."""


@limited
async def test_who_is_dead_is_named_or_skipped():
    async with Node(config_of("a")) as a, Admin(a, "127.0.0.1:0") as admin:
        async with Node(config_of("b", a.local_addr)) as b:
            await a.ready(2)
            b.gossip._say_goodbye = _nothing  # it dies
        await eventually(lambda: a.members()["b"].state.value == "dead")
        (outcome,) = await rotated(admin)
        assert "nothing was changed" in outcome["failed"]
        assert outcome["lacking"] == {"b": "it is dead"}
        assert (await rotated(admin, skip_dead="1"))[-1]["skipped"] == ["b"]


async def _nothing():
    pass


@limited
async def test_a_cluster_without_keys_has_none_to_replace():
    async with (
        Node(config_of("a", shuffle=ShuffleConfig())) as a,
        Admin(a, "127.0.0.1:0") as admin,
    ):
        assert "no keys to change" in (await rotated(admin))[-1]["failed"]


@limited
async def test_a_node_that_does_not_gossip_says_so():
    config = NodeConfig("a", peers={"b": "127.0.0.1:1"})
    async with Node(config) as a, Admin(a, "127.0.0.1:0") as admin:
        with pytest.raises(AdminRefusedError, match="does not gossip"):
            await rotated(admin)


@limited
async def test_no_web_page_can_ask_for_it():
    async with Node(config_of("a")) as a, Admin(a, "127.0.0.1:0") as admin:
        before = a._keyring.ids
        async with aiohttp.ClientSession(f"http://{admin.local_addr}") as browser:
            page = {"Origin": "http://evil.example"}
            async with browser.post("/keys/rotate", headers=page) as answer:
                assert answer.status == 403
            async with browser.get("/keys/rotate") as answer:
                assert answer.status == 405
            async with browser.post("/keys/rotate", json={"skip_dead": True}) as answer:
                assert (answer.status, "no body" in await answer.text()) == (400, True)
        assert a._keyring.ids == before
