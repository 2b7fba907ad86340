"""A hash join over two channels: orders meet their customers on the node of the customer's id.

Both sides are partitioned by the same key over the same nodes, so whatever matches meets. Each
node builds a table of the customers that come to it, then streams the orders past it. While it
builds, the orders wait in the window of their own channel and hold up nobody else.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pyarrow as pa

from laminar import Data, Exchange, HashPartitioner, NodeId, ShuffleReceiver, ShuffleSender

NODES = [NodeId("lima"), NodeId("oslo"), NodeId("tokyo")]
CUSTOMERS, ORDERS = 300, 9_000


def customers_at(node: int) -> pa.Table:
    """What a node has to begin with: every third customer."""
    ids = range(node, CUSTOMERS, len(NODES))
    return pa.table({"customer": ids, "name": [f"customer {number}" for number in ids]})


def orders_at(node: int) -> pa.Table:
    """Every third order, of anybody."""
    numbers = range(node, ORDERS, len(NODES))
    return pa.table({"order": numbers, "customer": [number * 7 % CUSTOMERS for number in numbers]})


async def join(customers: Exchange, orders: Exchange) -> pa.Table:
    """All orders that come to this node, with the names of their customers."""
    build = [message.batch async for _, message in customers if isinstance(message, Data)]
    table = pa.Table.from_batches(build)
    joined = []
    async for _, message in orders:
        if isinstance(message, Data):
            probe = pa.Table.from_batches([message.batch])
            joined.append(probe.join(table, "customer", join_type="inner"))
    return pa.concat_tables(joined)


async def run_node(
    number: int, receiver: ShuffleReceiver, sender: ShuffleSender, results: dict[str, pa.Table]
) -> None:
    """Send both of the own parts while joining what comes."""
    partitioner = HashPartitioner(["customer"], NODES)
    customers, orders = (
        Exchange(name, sender=sender, receiver=receiver, partitioner=partitioner)
        for name in ("customers", "orders")
    )

    async def send(exchange: Exchange, rows: pa.Table) -> None:
        await exchange.send(rows)
        await exchange.end()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, customers, customers_at(number))
        tasks.start_soon(send, orders, orders_at(number))
        results[sender.local_id] = await join(customers, orders)


async def main() -> None:
    """Start the nodes, tell each where the others are, and check the join."""
    results: dict[str, pa.Table] = {}
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(ShuffleReceiver.bind(node)) for node in NODES]
        senders = [await stack.enter_async_context(ShuffleSender(node)) for node in NODES]
        async with anyio.create_task_group() as tasks:
            for number, (receiver, sender) in enumerate(zip(receivers, senders, strict=True)):
                for other in receivers:
                    sender.register_peer(other.local_id, other.local_addr)
                tasks.start_soon(run_node, number, receiver, sender, results)

    for node, table in sorted(results.items()):
        print(f"{node}: {table.num_rows} orders of {len(table['customer'].unique())} customers")
    everything = pa.concat_tables(results.values()).sort_by("order")
    customer = [number * 7 % CUSTOMERS for number in range(ORDERS)]
    name = [f"customer {number}" for number in customer]
    right = everything.to_pydict() == {
        "order": list(range(ORDERS)),
        "customer": customer,
        "name": name,
    }
    print("the join is", "complete and right" if right else "WRONG")


if __name__ == "__main__":
    anyio.run(main)
