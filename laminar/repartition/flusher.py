"""Writes row groups in threads, beside the loop that collects the next ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import anyio
import anyio.to_thread
import pyarrow as pa
from anyio import CapacityLimiter
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from laminar.repartition.writers import PartitionFile


class Flusher:
    """Takes one generation of row groups at a time; a second one has to wait.

    That bounds what is being encoded to one generation. The row groups of a generation are
    written by up to ``threads`` threads, those of one partition in the order they came.
    """

    def __init__(self, open_file: Callable[[int], PartitionFile], threads: int) -> None:
        self._open_file = open_file
        self._files: dict[int, PartitionFile] = {}
        self._limiter = CapacityLimiter(threads)
        self._send, self._receive = anyio.create_memory_object_stream[dict[int, pa.Table]](0)
        self.rows_written = 0
        self.bytes_written = 0
        self.busy = False

    def start(self, tasks: TaskGroup) -> None:
        """Write in ``tasks`` until :meth:`finish`; an error ends them."""
        tasks.start_soon(self._run, self._receive)

    async def write(self, row_groups: dict[int, pa.Table]) -> None:
        """Hand over row groups by partition; waits until the ones before are written."""
        await self._send.send(row_groups)

    async def finish(self, partitions: Iterable[int]) -> None:
        """Wait for everything and finish the files of ``partitions``, empty ones too.

        To be called when the tasks of :meth:`start` have nothing left to write.
        """
        async with anyio.create_task_group() as tasks:
            for partition in partitions:
                tasks.start_soon(self._close, partition)

    def close(self) -> None:
        """No more row groups will come."""
        self._send.close()

    async def _run(self, generations: MemoryObjectReceiveStream[dict[int, pa.Table]]) -> None:
        async with generations, self._send:
            async for row_groups in generations:
                self.busy = True
                async with anyio.create_task_group() as tasks:
                    while row_groups:
                        tasks.start_soon(self._write, *row_groups.popitem())
                self.busy = False

    async def _write(self, partition: int, rows: pa.Table) -> None:
        file = self._file(partition)
        held = [rows]
        del rows  # the thread takes the last reference and drops it when it is done
        count = await self._thread(partial(_write_and_drop, file, held))
        self.rows_written += count

    async def _close(self, partition: int) -> None:
        size_bytes = await self._thread(self._file(partition).close)
        self.bytes_written += size_bytes  # not in one: "+=" would read it before the waiting

    async def _thread(self, call: Callable[[], int]) -> int:
        return await anyio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)

    def _file(self, partition: int) -> PartitionFile:
        if partition not in self._files:
            self._files[partition] = self._open_file(partition)
        return self._files[partition]


def _write_and_drop(file: PartitionFile, held: list[pa.Table]) -> int:
    rows = held.pop()
    file.write(rows)
    return rows.num_rows
