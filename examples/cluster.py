"""Four nodes find each other by one seed; one is killed, comes back, and is sent to again.

Each is a process that sends words to where their keys belong, without end. Nobody is told an
address but that of the seed, and those that were not killed never stop.
"""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import anyio
import polars as pl

from laminar import Data, Exchange, HashPartitioner, Node, NodeConfig, NodeId, PeerRestartedError

NODES = [NodeId(name) for name in ("lima", "oslo", "rome", "tokyo")]
WORDS = pl.DataFrame({"word": [f"word-{number}" for number in range(100)]})


async def work(name: NodeId, seeds: tuple[str, ...], parent: Connection) -> None:
    """Be one of the nodes."""
    async with Node(NodeConfig(name, seeds=seeds)) as node:
        if not seeds:
            parent.send(node.local_addr)
        await node.ready(min_members=len(NODES))
        words = node.exchange("words", HashPartitioner(["word"], NODES))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, words)
            await receive(words, parent)


async def send(words: Exchange) -> None:
    """Send all words, again and again."""
    while True:
        with suppress(PeerRestartedError):  # the receiving side tells of it
            await words.send(WORDS)
        await anyio.sleep(0.01)


async def receive(words: Exchange, parent: Connection) -> None:
    """Take what comes; tell when it comes from all, and who restarted."""
    heard: set[str] = set()
    while True:
        try:
            peer, message = await anext(words)
        except PeerRestartedError as error:
            parent.send(f"hears: {error}")
            heard.remove(error.peer)
            words.readmit(error.peer)
            continue
        if isinstance(message, Data) and peer is not None and peer not in heard:
            heard.add(peer)
            if len(heard) == len(NODES):
                parent.send("gets words from all")


def run(name: NodeId, seeds: tuple[str, ...], parent: Connection) -> None:
    """Be one of the processes."""
    anyio.run(work, name, seeds, parent)


def start(name: NodeId, *seeds: str) -> tuple[BaseProcess, Connection]:
    """A process that runs the node, and what it tells."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run, args=(name, seeds, theirs), daemon=True)
    process.start()
    return process, ours


def main() -> None:
    """Start them, kill one, start it again; print what they tell."""
    lima, *others = NODES
    nodes = {lima: start(lima)}
    seed = nodes[lima][1].recv()
    nodes |= {name: start(name, seed) for name in others}
    for name, (_, tells) in nodes.items():
        print(name, tells.recv())

    tokyo = others.pop()
    nodes[tokyo][0].kill()
    nodes[tokyo] = start(tokyo, seed)  # on another port
    print("tokyo was killed, and starts again")
    for name in (lima, *others):
        print(name, nodes[name][1].recv())
    for name, (_, tells) in nodes.items():
        print(name, tells.recv())


if __name__ == "__main__":
    main()
