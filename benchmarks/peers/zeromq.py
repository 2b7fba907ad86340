"""pyzmq PUSH/PULL: Arrow batches, and 32-byte messages blocking and on asyncio."""

from __future__ import annotations

import asyncio
import time

import pyarrow as pa
import zmq
import zmq.asyncio

from benchmarks.child import Link
from benchmarks.workload import SMALL_MESSAGE_BYTES, stream_batches

COPY_BELOW_BYTES = 65_536
"""pyzmq's own advice: handing a small message over costs more than copying it."""
STREAM_QUEUE_MESSAGES = 1_000
SMALL_QUEUE_MESSAGES = 100_000


def stream_receiver(link: Link, *, rows: int, warm: int, count: int) -> None:
    """Pull ``warm`` and then ``count`` batches and decode each in place."""
    schema = stream_batches(1)[0].schema
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.set_hwm(STREAM_QUEUE_MESSAGES)
        link.report(address=pull.bind_to_random_port("tcp://127.0.0.1"))
        _decode(pull, schema, warm * rows)
        link.report(warm=True)
        _decode(pull, schema, count * rows)
        link.report(ended=time.monotonic())


def _decode(pull: zmq.Socket[bytes], schema: pa.Schema, rows: int) -> None:
    seen = 0
    while seen < rows:
        body = pa.py_buffer(pull.recv(copy=False).buffer)
        seen += pa.ipc.read_record_batch(body, schema).num_rows


def stream_sender(link: Link, *, address: int, rows: int, warm: int, count: int) -> None:
    """Encode and push ``warm`` and, when told, ``count`` batches."""
    batches = stream_batches(rows)
    copy = batches[0].nbytes < COPY_BELOW_BYTES
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.set_hwm(STREAM_QUEUE_MESSAGES)
        push.connect(f"tcp://127.0.0.1:{address}")
        for turn in range(warm):
            push.send(batches[turn % len(batches)].serialize(), copy=copy)
        link.report(ready=True)
        link.heard()
        link.report(started=time.monotonic())
        for turn in range(count):
            push.send(batches[turn % len(batches)].serialize(), copy=copy)
        link.heard()


def small_receiver(link: Link, *, warm: int, count: int) -> None:
    """Pull 32-byte messages with a blocking socket."""
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.set_hwm(SMALL_QUEUE_MESSAGES)
        link.report(address=pull.bind_to_random_port("tcp://127.0.0.1"))
        for _ in range(warm):
            pull.recv()
        link.report(warm=True)
        for _ in range(count):
            pull.recv()
        link.report(ended=time.monotonic())


def small_sender(link: Link, *, address: int, warm: int, count: int) -> None:
    """Push 32-byte messages with a blocking socket."""
    message = bytes(SMALL_MESSAGE_BYTES)
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.set_hwm(SMALL_QUEUE_MESSAGES)
        push.connect(f"tcp://127.0.0.1:{address}")
        for _ in range(warm):
            push.send(message)
        link.report(ready=True)
        link.heard()
        link.report(started=time.monotonic())
        for _ in range(count):
            push.send(message)
        link.heard()


def small_asyncio_receiver(link: Link, *, warm: int, count: int) -> None:
    """Pull 32-byte messages with pyzmq's asyncio socket."""

    async def receive() -> None:
        with zmq.asyncio.Context() as context, context.socket(zmq.PULL) as pull:
            pull.set_hwm(SMALL_QUEUE_MESSAGES)
            link.report(address=pull.bind_to_random_port("tcp://127.0.0.1"))
            for _ in range(warm):
                await pull.recv()
            link.report(warm=True)
            for _ in range(count):
                await pull.recv()
            link.report(ended=time.monotonic())

    asyncio.run(receive())


def small_asyncio_sender(link: Link, *, address: int, warm: int, count: int) -> None:
    """Push 32-byte messages with pyzmq's asyncio socket."""
    message = bytes(SMALL_MESSAGE_BYTES)

    async def send() -> None:
        with zmq.asyncio.Context() as context, context.socket(zmq.PUSH) as push:
            push.set_hwm(SMALL_QUEUE_MESSAGES)
            push.connect(f"tcp://127.0.0.1:{address}")
            for _ in range(warm):
                await push.send(message)
            link.report(ready=True)
            link.heard()
            link.report(started=time.monotonic())
            for _ in range(count):
                await push.send(message)
            await asyncio.to_thread(link.heard)

    asyncio.run(send())
