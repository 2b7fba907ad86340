"""Nodes with admin servers, and clients that ask them over real sockets."""

from contextlib import asynccontextmanager

import aiohttp

from laminar.admin.server import Admin
from laminar.config import GossipConfig
from laminar.node.config import NodeConfig
from laminar.node.node import Node

QUICK = GossipConfig(interval_s=0.02)


def config_of(name, *seeds):
    return NodeConfig(name, seeds=seeds, gossip=QUICK)


@asynccontextmanager
async def admin_of(node, config=None):
    """A server of ``node``, and a client of it."""
    async with (
        Admin(node, "127.0.0.1:0", config=config) as admin,
        aiohttp.ClientSession(f"http://{admin.local_addr}") as client,
    ):
        yield admin, client


@asynccontextmanager
async def asked(config=None, **how):
    """A client of the server of a single node."""
    async with Node(config_of("a"), **how) as node, admin_of(node, config) as (_, client):
        yield node, client


async def ask(client, path, status=200, **how):
    """The answer, which is JSON."""
    async with client.get(path, **how) as answer:
        assert (answer.status, answer.content_type) == (status, "application/json")
        return await answer.json()


async def refused(client, path, status=400, **how):
    """What is wrong."""
    return (await ask(client, path, status, **how))["error"]
