"""A node as a process: repartitions numbered rows without end, and prints what it sees.

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

from laminar import Data, HashPartitioner, Node, NodeConfig, ShuffleConfig
from laminar.config import GossipConfig
from laminar.errors import FanOutError, LaminarError, RemoteError

PAUSE_S = 0.01
"""Between two batches, which have a row for every node."""

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


def batch_of(**columns: list[int]) -> pa.RecordBatch:
    """Made without ``pa.array``, which imports pandas where there is one."""
    arrays = [
        pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(array("q", values))])
        for values in columns.values()
    ]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


class Workload:
    """What one of ``nodes`` does."""

    def __init__(self, node: Node, nodes: list[str]) -> None:
        self.node = node
        self.life = time.time_ns()
        self.sent = dict.fromkeys(nodes, 0)
        self.stopped = False
        partitioner = HashPartitioner(["key"], nodes)
        self.exchange = node.exchange("rows", partitioner)
        parts = partitioner.split(batch_of(key=list(range(1000))))
        self.keys = {nodes[index]: part["key"][0].as_py() for index, part in parts}
        """One that belongs to each node."""

    async def run(self) -> None:
        tell("listening", addr=self.node.local_addr)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.tell_members)
            tasks.start_soon(self.tell_peers)
            tasks.start_soon(self.tell_rounds)
            tasks.start_soon(self.receive)
            tasks.start_soon(self.send)
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

    async def send(self) -> None:
        await self.node.ready(len(self.sent))
        while not self.stopped:
            batch = batch_of(
                key=list(self.keys.values()),
                life=[self.life] * len(self.keys),
                number=[self.sent[node] for node in self.keys],
            )
            for node in self.keys:
                self.sent[node] += 1
            try:
                await self.exchange.send(batch)
            except FanOutError as error:
                for failure in error.failures.values():
                    self.tell_error("sender", failure)
            except LaminarError as error:
                self.tell_error("sender", error)
            await anyio.sleep(PAUSE_S)

    async def receive(self) -> None:
        while True:
            try:
                peer, message = await anext(self.exchange)
            except RemoteError as error:
                self.tell_error("receiver", error)
                self.exchange.readmit(error.peer)
                continue
            if isinstance(message, Data):
                for row in message.batch.to_pylist():
                    tell("row", peer=peer, life=row["life"], number=row["number"])

    def tell_error(self, side: str, error: LaminarError) -> None:
        peer = error.peer if isinstance(error, RemoteError) else None
        tell("error", side=side, kind=type(error).__name__, peer=peer, text=str(error))


async def main(config: NodeConfig, nodes: list[str]) -> None:
    async with Node(config) as node:
        await Workload(node, nodes).run()


if __name__ == "__main__":
    node, listen, seed, nodes, loop, interval_s = json.loads(sys.argv[1]).values()
    gossip = GossipConfig(interval_s=interval_s)
    config = NodeConfig(node, listen, seeds=(seed,), shuffle=SHUFFLE, gossip=gossip)
    anyio.run(
        main,
        config,
        nodes,
        backend="trio" if loop == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if loop == "uvloop" else {},
    )
