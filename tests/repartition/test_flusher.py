import threading

import anyio
import pyarrow as pa
import pytest

from laminar.errors import OutputError
from laminar.repartition.flusher import Flusher


class RecordingFile:
    def __init__(self, gate=None):
        self.rows = []
        self.closed = 0
        self.gate = gate

    def write(self, rows):
        if self.gate is not None:
            assert self.gate.wait(10)
        self.rows += rows["x"].to_pylist()

    def close(self):
        self.closed += 1
        return 10


def table(*values):
    return pa.table({"x": list(values)})


async def test_everything_is_written_in_order_and_every_file_closed():
    files = {number: RecordingFile() for number in range(3)}
    flusher = Flusher(files.__getitem__, threads=2)
    async with anyio.create_task_group() as tasks:
        flusher.start(tasks)
        await flusher.write({0: table(1, 2), 1: table(5)})
        await flusher.write({0: table(3)})
        flusher.close()
    await flusher.finish(range(3))
    assert [files[i].rows for i in range(3)] == [[1, 2, 3], [5], []]
    assert [files[i].closed for i in range(3)] == [1, 1, 1]
    assert (flusher.rows_written, flusher.bytes_written) == (4, 30)


async def test_a_second_generation_waits_for_the_first():
    gate = threading.Event()
    file = RecordingFile(gate)
    flusher = Flusher(lambda _: file, threads=2)
    async with anyio.create_task_group() as tasks:
        flusher.start(tasks)
        await flusher.write({0: table(1)})
        with anyio.move_on_after(0.05) as waiting:
            await flusher.write({0: table(2)})
        assert waiting.cancelled_caught
        gate.set()
        await flusher.write({0: table(3)})
        flusher.close()
    assert file.rows == [1, 3]


async def test_a_failure_ends_the_tasks():
    class Failing(RecordingFile):
        def write(self, rows):
            raise OutputError("cannot write")

    flusher = Flusher(lambda _: Failing(), threads=1)

    async def run():
        async with anyio.create_task_group() as tasks:
            flusher.start(tasks)
            await flusher.write({0: table(1)})
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as group:
        await run()
    assert group.group_contains(OutputError, match="cannot write")
