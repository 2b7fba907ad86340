"""Two nodes repartition rows between them, so that each name ends up on exactly one node.

Both run in this process here, and talk over real sockets all the same. In a job each would be
a process of its own: what one node does is :func:`run_node`.
"""

from __future__ import annotations

import anyio
import pyarrow as pa

from laminar import Data, Exchange, HashPartitioner, NodeId, ShuffleReceiver, ShuffleSender

NODES = [NodeId("lima"), NodeId("tokyo")]

# What each node starts with: anybody's orders.
ORDERS = {
    "lima": {"name": ["ann", "bob", "cho", "ann"], "amount": [10, 20, 30, 40]},
    "tokyo": {"name": ["bob", "dee", "ann", "cho"], "amount": [1, 2, 3, 4]},
}


async def run_node(receiver: ShuffleReceiver, sender: ShuffleSender) -> dict[str, int]:
    """Send the own orders to where their names belong; return the totals of those that came."""
    partitioner = HashPartitioner(["name"], NODES)
    exchange = Exchange("orders", sender=sender, receiver=receiver, partitioner=partitioner)

    async def send() -> None:
        await exchange.send(pa.table(ORDERS[sender.local_id]))
        await exchange.end()

    totals: dict[str, int] = {}
    # Sending waits for nodes that are slow to take their rows, so it has a task of its own.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        async for _, message in exchange:  # until every node has ended
            if isinstance(message, Data):
                for row in message.batch.to_pylist():
                    totals[row["name"]] = totals.get(row["name"], 0) + row["amount"]
    return totals


async def main() -> None:
    """Start both nodes, tell each where the other is, and print what they find."""
    totals: dict[str, dict[str, int]] = {}

    async def run(receiver: ShuffleReceiver, sender: ShuffleSender) -> None:
        totals[sender.local_id] = await run_node(receiver, sender)

    async with (
        ShuffleReceiver.bind("lima") as in_lima,
        ShuffleReceiver.bind("tokyo") as in_tokyo,
        ShuffleSender("lima") as from_lima,
        ShuffleSender("tokyo") as from_tokyo,
    ):
        from_lima.register_peer("tokyo", in_tokyo.local_addr)
        from_tokyo.register_peer("lima", in_lima.local_addr)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, in_lima, from_lima)
            tasks.start_soon(run, in_tokyo, from_tokyo)

    for node, by_name in sorted(totals.items()):
        for name, total in sorted(by_name.items()):
            print(f"{node} has all orders of {name}: {total} in total")


if __name__ == "__main__":
    anyio.run(main)
