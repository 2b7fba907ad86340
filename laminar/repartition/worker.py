"""A worker process: reads splits, exchanges rows with its peers, writes its partitions.

Started as ``python -m laminar.repartition NUMBER …`` by :mod:`laminar.repartition.crew`;
speaks :mod:`laminar.repartition.protocol` on its standard input and output.

Four tasks, connected by queues that hold one thing each::

    files ──read──▶ send ──▶ (fabric: all workers) ──▶ collect ──▶ write ──▶ files

Whatever is slowest holds the others up, through the fabric's window across processes too.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

import anyio
import anyio.to_thread
import pyarrow as pa
from anyio import CapacityLimiter
from anyio.from_thread import BlockingPortal
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from laminar.config import GossipConfig, ShuffleConfig
from laminar.errors import LaminarError, RemoteError, UnknownPeerError, WorkerError
from laminar.node.config import NodeConfig
from laminar.node.node import Node
from laminar.repartition.budget import Budget, divide
from laminar.repartition.fabric import Fabric, node_name
from laminar.repartition.flusher import Flusher
from laminar.repartition.holding import Holding, unshared
from laminar.repartition.memory import peak_rss_bytes, rss_bytes
from laminar.repartition.naming import part_name
from laminar.repartition.placement import owned
from laminar.repartition.plan import Split
from laminar.repartition.planning import make_plan
from laminar.repartition.protocol import (
    AnyMessage,
    Assignment,
    Finished,
    FromWorker,
    Membership,
    NoMoreWork,
    Planned,
    PlanRequest,
    Progress,
    Ready,
    Work,
    decode,
    encode,
    failure_of,
)
from laminar.repartition.readers import Reader
from laminar.repartition.schema import physical_schema, unpack_schema
from laminar.repartition.spec import default_workers
from laminar.repartition.writers import Encoding, PartitionFile, open_partition

LISTEN_ADDRESS = "127.0.0.1:0"
LEAVE_TIMEOUT_S = 0.1
"""Longest time that a failed worker says goodbye before it says why: its peers fail as well."""
REPORT_INTERVAL_S = 0.2
ENCODE_THREADS_MAX = 4


class Worker:
    """The state of one worker from its assignment to its last file."""

    def __init__(self, number: int, job: Assignment, out: BinaryIO) -> None:
        self._number = number
        self._job = job
        self._out = out
        spec, layout = job.spec, job.layout
        self._budget: Budget = divide(spec.memory_limit_bytes, spec.workers)
        self._partitions = owned(number, spec.partitions, spec.workers)
        logical = unpack_schema(layout.schema)
        physical = physical_schema(logical, layout.dictionary_columns)
        self._reader = Reader(logical, physical, layout.row_bytes, self._budget)
        self._holding = Holding(physical, self._budget.holding_bytes)
        self._encoding = Encoding(
            logical, physical, spec.output_format, spec.codec, layout.decimals_as_integers
        )
        threads = max(1, min(ENCODE_THREADS_MAX, default_workers() // spec.workers))
        self._flusher = Flusher(self._open_file, threads)
        self._read_limiter = CapacityLimiter(1)
        self._splits_done = 0
        self._rows_read = 0
        self._bytes_read = 0.0
        self._bytes_held = 0
        self._reading = True
        self._collected = False

    async def run(self, node: Node, messages: MemoryObjectReceiveStream[AnyMessage]) -> None:
        """Do the whole job, report it, and stay until the job's process lets go.

        Raises a :class:`~laminar.errors.LaminarError` when the job cannot be done.
        """
        spec = self._job.spec
        fabric = Fabric(node, spec.workers, spec.by, spec.partitions)
        async with anyio.create_task_group() as reporting:
            reporting.start_soon(self._report, fabric)
            async with anyio.create_task_group() as tasks:
                queue = anyio.create_memory_object_stream[pa.RecordBatch](0)
                tasks.start_soon(self._read, messages, queue[0], fabric)
                tasks.start_soon(self._ship, queue[1], fabric)
                self._flusher.start(tasks)
                tasks.start_soon(self._collect, fabric)
            await self._flusher.finish(self._partitions)
            reporting.cancel_scope.cancel()
        say(self._out, self._progress(fabric, "done"))
        say(self._out, self._finished(fabric))
        await anyio.sleep_forever()  # peers may still look at the connection; see listen()

    async def _read(
        self,
        messages: MemoryObjectReceiveStream[AnyMessage],
        queue: MemoryObjectSendStream[pa.RecordBatch],
        fabric: Fabric,
    ) -> None:
        async with queue:
            async for message in messages:
                if isinstance(message, NoMoreWork):
                    break
                if isinstance(message, Work):
                    await self._read_split(message.split, queue)
                    say(self._out, self._progress(fabric, self._state()))
        self._reader.close()
        self._reading = False

    async def _read_split(
        self, split: Split, queue: MemoryObjectSendStream[pa.RecordBatch]
    ) -> None:
        batches = self._reader.batches(split)
        counted = 0.0
        while (batch := await self._next(batches)) is not None:
            self._rows_read += batch.num_rows
            self._bytes_held += batch.nbytes
            if split.rows:
                step = split.size_bytes * batch.num_rows / split.rows
                counted += step
                self._bytes_read += step
            await queue.send(batch)
            del batch
        self._bytes_read += split.size_bytes - counted
        self._splits_done += 1

    async def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        return await anyio.to_thread.run_sync(
            next, batches, None, limiter=self._read_limiter, abandon_on_cancel=True
        )

    async def _ship(self, queue: MemoryObjectReceiveStream[pa.RecordBatch], fabric: Fabric) -> None:
        async with queue:
            await fabric.join()
            async for batch in queue:
                await fabric.send(batch)
                del batch
        await fabric.end()

    async def _collect(self, fabric: Fabric) -> None:
        async for arrived in fabric:
            batch = unshared(arrived)
            del arrived
            size = batch.nbytes
            for partition, start, stop in fabric.runs(batch):
                share = size * (stop - start) // batch.num_rows
                self._holding.add(partition, batch.slice(start, stop - start), share)
            del batch
            due = self._holding.due()
            if due:
                await self._flusher.write(due)
        self._collected = True
        rest = self._holding.rest()
        if rest:
            await self._flusher.write(rest)
        self._flusher.close()

    def _open_file(self, partition: int) -> PartitionFile:
        job = self._job
        name = part_name(partition, job.run_id, job.spec.output_format)
        return open_partition(job.folder / name, self._encoding)

    async def _report(self, fabric: Fabric) -> None:
        while True:
            say(self._out, self._progress(fabric, self._state()))
            await anyio.sleep(REPORT_INTERVAL_S)

    def _state(self) -> str:
        if self._reading:
            return "reading and writing" if self._flusher.busy else "reading"
        return "writing" if self._collected else "receiving"

    def _progress(self, fabric: Fabric, state: str) -> Progress:
        return Progress(
            state=state,
            splits_done=self._splits_done,
            rows_read=self._rows_read,
            bytes_read=round(self._bytes_read),
            bytes_held=self._bytes_held,
            rows_written=self._flusher.rows_written,
            bytes_sent=fabric.bytes_sent,
            rss_bytes=rss_bytes(),
        )

    def _finished(self, fabric: Fabric) -> Finished:
        return Finished(
            rows_read=self._rows_read,
            rows_written=self._flusher.rows_written,
            bytes_held=self._bytes_held,
            bytes_sent=fabric.bytes_sent,
            bytes_written=self._flusher.bytes_written,
            peak_rss_bytes=peak_rss_bytes(),
        )


def shuffle_config(run_id: str, key: str, budget: Budget) -> ShuffleConfig:
    """The fabric's settings; the key keeps everybody but the workers of this run out."""
    return ShuffleConfig(
        cluster=f"laminar-shuffle-{run_id}",
        keys=(bytes.fromhex(key),),
        window_bytes=budget.window_bytes,
        target_frame_bytes=budget.frame_bytes,
    )


def admitted(source: BinaryIO) -> Membership:
    """The first message of the job's process."""
    message = decode(source.readline() or leave(0))
    if not isinstance(message, Membership):
        raise WorkerError(f"{type(message).__name__} before Membership")
    return message


def say(out: BinaryIO, message: FromWorker) -> None:
    """Tell the job's process. One small write: a pipe takes it whole."""
    out.write(encode(message))
    out.flush()


def listen(
    source: BinaryIO, portal: BlockingPortal, messages: MemoryObjectSendStream[AnyMessage]
) -> None:
    """Pass on what the job's process says; when it lets go or is gone, so is this process.

    Runs in a thread of its own, so that the end is noticed whatever the loop is doing.
    """
    for line in source:
        portal.call(messages.send_nowait, decode(line))
    leave(0)


def root_cause(error: BaseException) -> BaseException:
    """The error that explains a failed group: a bug before anything, a lost peer only at last.

    Between tasks a failure shows as the broken end of a queue, which explains nothing.
    """

    def rank(leaf: BaseException) -> int:
        if isinstance(leaf, anyio.BrokenResourceError):
            return 3
        if not isinstance(leaf, LaminarError):
            return 0
        return 2 if isinstance(leaf, RemoteError | UnknownPeerError) else 1

    return min(_leaves(error), key=rank)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def node_config(number: int, membership: Membership, run_id: str, budget: Budget) -> NodeConfig:
    """The settings of worker ``number`` as a node of its run's cluster."""
    return NodeConfig(
        node_name(number),
        listen=LISTEN_ADDRESS,
        seeds=membership.seeds,
        shuffle=shuffle_config(run_id, membership.key, budget),
        gossip=GossipConfig(leave_timeout_s=LEAVE_TIMEOUT_S),
    )


async def serve(number: int, run_id: str, budget: Budget) -> None:
    """Be worker ``number`` of one job; ends the process."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not end up between the messages
    send, messages = anyio.create_memory_object_stream[AnyMessage](float("inf"))
    try:
        # Nothing else runs yet; when this is answered, all that takes time to load is there.
        membership = admitted(sys.stdin.buffer)
        config = node_config(number, membership, run_id, budget)
        async with BlockingPortal() as portal, Node(config) as node:
            arguments = (sys.stdin.buffer, portal, send)
            threading.Thread(target=listen, args=arguments, daemon=True).start()
            say(out, Ready(node.local_addr))
            async for message in messages:
                if isinstance(message, PlanRequest):
                    say(out, Planned(await anyio.to_thread.run_sync(make_plan, message.spec)))
                elif isinstance(message, Assignment):
                    await Worker(number, message, out).run(node, messages)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - said, not swallowed
        cause = root_cause(error)
        if not isinstance(cause, LaminarError | MemoryError):
            traceback.print_exception(cause)  # a bug: this worker's last word
        else:
            say(out, failure_of(cause))
        leave(1)  # not by returning: threads may still be reading or writing


def leave(code: int) -> NoReturn:
    """End the process at once, whatever its threads do."""
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """The entry point; the arguments come from :mod:`laminar.repartition.crew`."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(2)
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    number, workers, memory_limit_bytes = (int(text) for text in sys.argv[1:4])
    anyio.run(serve, number, sys.argv[4], divide(memory_limit_bytes, workers))
