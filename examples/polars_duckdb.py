"""polars in, DuckDB out: the fabric takes and gives Arrow, whoever made it.

One node sends a data frame of polars; the other collects what arrives and asks DuckDB.
"""

from __future__ import annotations

import anyio
import duckdb
import polars
import pyarrow as pa

from laminar import Data, End, ShuffleReceiver, ShuffleSender


async def send(addr: str) -> None:
    """Send a data frame of polars, and the end of the channel."""
    flights = polars.DataFrame(
        {
            "carrier": ["UA", "AA", "UA", "DL", "AA", "UA"],
            "delay": [12, None, -3, 40, 7, 0],
        },
        schema_overrides={"carrier": polars.Categorical},
    )
    async with ShuffleSender("loader") as sender:
        sender.register_peer("analyst", addr)
        for batch in pa.table(flights).to_batches():  # no copy: both speak Arrow
            await sender.send_to("analyst", Data(batch, channel="flights"))
        await sender.send_to("analyst", End("flights"))


async def receive(receiver: ShuffleReceiver) -> pa.Table:
    """Everything that arrives on the channel, as one table."""
    batches: list[pa.RecordBatch] = []
    async for _, message in receiver.channel("flights"):
        if isinstance(message, End):
            break
        if isinstance(message, Data):
            batches.append(message.batch)
    return pa.Table.from_batches(batches)


async def main() -> None:
    """Send, receive, and query."""
    async with ShuffleReceiver.bind("analyst") as receiver, anyio.create_task_group() as tasks:
        tasks.start_soon(send, receiver.local_addr)
        flights = await receive(receiver)
    engine = duckdb.connect().register("flights", flights)
    rows = engine.execute(
        "select carrier::varchar, count(*), round(avg(delay), 1) from flights group by 1 order by 1"
    ).fetchall()
    for carrier, count, delay in rows:
        print(f"{carrier}: {count} flights, {delay} minutes late on average")


if __name__ == "__main__":
    anyio.run(main)
