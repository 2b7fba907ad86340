"""A node as a process: sends numbered rows to others without end, and prints what it sees.

Its settings are one argument, in JSON. What it prints is a JSON object a line. A line "stop" on its
standard input has it send no more, and say how many rows it sent when all have arrived. It leaves
when its standard input ends, so that none outlives the test that started it.
"""

import json
import sys
import time
from array import array

import anyio
import pyarrow as pa

from laminar import Data, Node, NodeConfig, ShuffleConfig
from laminar.config import GossipConfig
from laminar.errors import RemoteError, UnknownPeerError

CHANNEL = "rows"
PAUSE_S = 0.01
"""Between two rows to a peer."""

SHUFFLE = ShuffleConfig(
    keys=(bytes(range(32)),),
    backoff_max_s=0.2,
    dial_timeout_s=1.0,
    keepalive_interval_s=0.2,
    keepalive_timeout_s=0.8,
    reconnect_timeout_s=60.0,
)


def tell(event: str, **what: object) -> None:
    print(json.dumps({"event": event, **what}), flush=True)


def row(life: int, number: int) -> pa.RecordBatch:
    """A batch of one, made without ``pa.array``: that imports pandas where there is one."""
    columns = {"life": life, "number": number}
    arrays = [
        pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(array("q", [value]))])
        for value in columns.values()
    ]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


class Workload:
    """What one node does: ``peers`` are those it sends to."""

    def __init__(self, node: Node, peers: list[str]) -> None:
        self.node = node
        self.life = time.time_ns()
        self.peers = peers
        self.sent = dict.fromkeys(peers, 0)
        self.stopped = False

    async def run(self) -> None:
        tell("listening", addr=self.node.local_addr)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.tell_members)
            tasks.start_soon(self.tell_peers)
            tasks.start_soon(self.tell_rounds)
            tasks.start_soon(self.receive)
            for peer in self.peers:
                tasks.start_soon(self.send, peer)
            while await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                await self.stop()
            tasks.cancel_scope.cancel()

    async def tell_members(self) -> None:
        async with self.node.watch_members() as members:
            async for member in members:
                tell("member", node=member.node, state=member.state.value)

    async def tell_peers(self) -> None:
        async with self.node.sender.watch_peers() as events:
            async for event in events:
                tell("peer", peer=event.peer, state=event.state.value, reason=event.reason)

    async def tell_rounds(self) -> None:
        """How far the gossip is: how much time has passed for it."""
        while True:
            tell("round", number=self.node.statistics().discovery.gossip.rounds)
            await anyio.sleep(4 * self.node.config.gossip.interval_s)

    async def stop(self) -> None:
        self.stopped = True
        await self.node.sender.flush()
        tell("stopped", sent=self.sent)

    async def send(self, peer: str) -> None:
        while not self.stopped:
            try:
                await self.node.sender.send_to(peer, Data(row(self.life, self.sent[peer]), CHANNEL))
            except UnknownPeerError:  # nobody has heard of it yet
                await anyio.sleep(PAUSE_S)
                continue
            except RemoteError as error:
                tell("error", side="sender", peer=peer, kind=type(error).__name__)
            self.sent[peer] += 1
            await anyio.sleep(PAUSE_S)

    async def receive(self) -> None:
        inbox = self.node.receiver.channel(CHANNEL)
        while True:
            try:
                peer, message = await inbox.recv()
            except RemoteError as error:
                tell("error", side="receiver", kind=type(error).__name__, text=str(error))
                continue
            if isinstance(message, Data):
                for row in message.batch.to_pylist():
                    tell("row", peer=peer, **row)


async def main(config: NodeConfig, peers: list[str]) -> None:
    async with Node(config) as node:
        await Workload(node, peers).run()


if __name__ == "__main__":
    node, listen, seed, peers, loop, interval_s = json.loads(sys.argv[1]).values()
    gossip = GossipConfig(interval_s=interval_s)
    config = NodeConfig(node, listen, seeds=(seed,), shuffle=SHUFFLE, gossip=gossip)
    anyio.run(
        main,
        config,
        peers,
        backend="trio" if loop == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if loop == "uvloop" else {},
    )
