from contextlib import asynccontextmanager
from dataclasses import replace

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


@limited
async def test_which_keys_the_nodes_have_is_told_by_their_ids(tmp_path):
    async with two_with_keys(tmp_path) as client:
        ring = keyring_file.load(tmp_path / "a")
        told = await ask(client, "/keys")
        while told.keys() != {"a", "b"}:
            told = await ask(client, "/keys")
        assert told["a"]["primary"] == ring.primary.hex()
        assert told["a"]["keys"] == told["b"]["keys"] == [identity.hex() for identity in ring.ids]
        assert all(key.hex() not in str(told) for key in ring.keys)


@limited
async def test_nodes_without_keys_have_none_to_tell():
    async with asked() as (_, client):
        assert await ask(client, "/keys") == {}
    async with asked(kv=InMemoryKv("a")) as (_, client):
        assert "does not gossip" in await refused(client, "/keys")
