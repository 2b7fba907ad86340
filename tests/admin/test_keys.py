from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from laminar.cluster import keyring_file
from laminar.cluster.memory import InMemoryKv
from laminar.node.node import Node
from tests.admin.asking import admin_of, ask, asked, config_of, refused
from tests.wiring import limited


def with_keys(name, tmp_path, *seeds):
    return replace(config_of(name, *seeds), keys_file=str(tmp_path / name))


@asynccontextmanager
async def two_with_keys(tmp_path):
    """Two nodes with one key, and a client of the first one's server."""
    keyring = keyring_file.create(tmp_path / "a")
    keyring_file.save(tmp_path / "b", keyring)
    async with (
        Node(with_keys("a", tmp_path)) as a,
        Node(with_keys("b", tmp_path, a.local_addr)),
        admin_of(a) as (_, client),
    ):
        await a.ready(2)
        yield client


async def rotate(client, status, **how):
    async with client.post("/keys/rotate", **how) as answer:
        assert (answer.status, answer.content_type) == (status, "application/json")
        return await answer.json()


@limited
async def test_a_key_is_replaced_and_never_told(tmp_path):
    async with two_with_keys(tmp_path) as client:
        before = keyring_file.load(tmp_path / "a")
        answer = await rotate(client, 200, json={})
        after = keyring_file.load(tmp_path / "b")
        assert after.keys != before.keys
        assert answer == {"key": after.primary.hex(), "members": ["a", "b"], "skipped": []}
        told = await ask(client, "/keys")
        mine = {"primary": answer["key"], "keys": [answer["key"]], "stage": "remove", "trouble": ""}
        assert told["a"] == mine
        for key in (*before.keys, *after.keys):
            assert key.hex() not in f"{answer} {told}"


@limited
async def test_who_did_not_follow_a_change_of_keys_is_named(tmp_path):
    async with two_with_keys(tmp_path) as client:
        answer = await rotate(client, 503, json={"timeout_s": 1e-9, "skip_dead": True})
        assert answer["lacking"]["b"] in answer["error"]


@limited
async def test_without_keys_there_is_none_to_replace():
    async with asked() as (_, client):
        assert "no keys" in (await rotate(client, 400, json={}))["error"]
        assert await ask(client, "/keys") == {}
    async with asked(kv=InMemoryKv("a")) as (_, client):
        assert "does not gossip" in (await rotate(client, 400, json={}))["error"]
        assert "does not gossip" in await refused(client, "/keys")


@limited
async def test_a_form_of_some_web_page_changes_nothing(tmp_path):
    async with two_with_keys(tmp_path) as client:
        before = keyring_file.load(tmp_path / "a")
        assert "application/json" in (await rotate(client, 415, data={"skip_dead": "1"}))["error"]
        text = {"headers": {"Content-Type": "text/plain"}, "data": b"{}"}
        assert "application/json" in (await rotate(client, 415, **text))["error"]
        elsewhere = {"headers": {"Host": "evil.example"}, "json": {}}
        assert "Host" in (await rotate(client, 403, **elsewhere))["error"]
        async with client.options("/keys/rotate") as answer:  # may I?
            assert answer.status == 405
        assert keyring_file.load(tmp_path / "a").keys == before.keys


@limited
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"skip_dead": 1}', b'{"skip": true}', b'{"timeout_s": 0}', b"\xff"],
)
async def test_a_body_that_is_not_as_it_should_be(tmp_path, body):
    async with two_with_keys(tmp_path) as client:
        how = {"headers": {"Content-Type": "application/json"}, "data": body}
        assert "the body is not as" in (await rotate(client, 400, **how))["error"]


@limited
async def test_a_body_that_is_too_large(tmp_path):
    async with two_with_keys(tmp_path) as client:
        how = {"headers": {"Content-Type": "application/json"}, "data": b" " * 100_000}
        assert "Too Large" in (await rotate(client, 413, **how))["error"]
