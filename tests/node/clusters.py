"""Nodes that find each other on loopback, quickly."""

from contextlib import AsyncExitStack, asynccontextmanager

from laminar.config import GossipConfig
from laminar.node.config import NodeConfig
from laminar.node.node import Node

QUICK = GossipConfig(interval_s=0.02, leave_timeout_s=0.2)


def config_of(name, *seeds, **settings):
    return NodeConfig(name, seeds=seeds, **{"gossip": QUICK} | settings)


@asynccontextmanager
async def cluster(*names, **settings):
    """One seed, and the others know it."""
    async with AsyncExitStack() as stack:
        nodes = []
        for name in names:
            seeds = [nodes[0].local_addr] if nodes else []
            node = Node(config_of(name, *seeds, **settings))
            nodes.append(await stack.enter_async_context(node))
        for node in nodes:
            await node.ready(len(names))
        yield nodes
