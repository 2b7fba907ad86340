"""The contract of the stream seam as a suite that any ``Network`` can be put to.

::

    @asynccontextmanager
    async def my_network():
        yield MyNetwork()

    async def test_contract():
        await check_stream(my_network)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import pyarrow as pa

from laminar.errors import StreamBrokenError, StreamClosedError, StreamError
from laminar.net.stream import ByteStream, Network, SendBuffer, receive_exactly
from laminar.testing.contract import expect, hold_to

NetworkFactory: TypeAlias = Callable[[], AbstractAsyncContextManager[Network]]
"""Makes a network that can reach itself, and tears it down."""

LARGE_BYTES = 24 * 1024 * 1024
"""More than any connection holds on its way."""

LISTEN_ADDR = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a fresh connection."""

    near: ByteStream
    """The end that dialled."""
    far: ByteStream
    """The end that was accepted."""


StreamCheck: TypeAlias = Callable[[Network], Awaitable[None]]
"""One promise of the contract, checked on a fresh network."""


async def check_stream(factory: NetworkFactory, *, timeout_seconds: float = 10.0) -> None:
    """Run every check of :data:`STREAM_CHECKS` on a fresh network.

    Raises ``AssertionError``, naming the check, at the first broken promise.
    """
    for check in STREAM_CHECKS:
        await run_check(check, factory, timeout_seconds=timeout_seconds)


async def run_check(
    check: StreamCheck, factory: NetworkFactory, *, timeout_seconds: float = 10.0
) -> None:
    """Run one check on a fresh network, at most ``timeout_seconds`` long."""
    await hold_to(check, factory(), timeout_seconds)


# -- bytes ------------------------------------------------------------------------------------


async def all_bytes_arrive_in_order(network: Network) -> None:
    """Buffers of every kind and size, and empty ones, arrive as one sequence of bytes."""
    pieces: list[SendBuffer] = [b"", b"one", bytearray(b"two"), memoryview(b"three")]
    pieces += [pa.py_buffer(b"four"), b"", memoryview(bytes(range(16))).cast("q"), b""]
    expected = b"".join(pieces)
    async with _connected(network) as ends:
        await ends.near.send_vectored(pieces)
        await ends.near.send_vectored([])
        await ends.near.send_vectored([b"", b""])
        await ends.near.send_vectored([b"more"])
        expect(await receive_exactly(ends.far, len(expected) + 4), expected + b"more")


async def many_buffers_go_at_once(network: Network) -> None:
    """More buffers than one system call takes."""
    pieces = [bytes([number % 251]) * (number % 3) for number in range(5000)]
    async with _connected(network) as ends, anyio.create_task_group() as tasks:
        tasks.start_soon(ends.near.send_vectored, pieces)
        expected = b"".join(pieces)
        expect(await receive_exactly(ends.far, len(expected)), expected)


async def a_large_send_waits_and_arrives(network: Network) -> None:
    """What does not fit on the way makes the sender wait, and is not lost or mixed up."""
    data = bytes(range(256)) * (LARGE_BYTES // 256)
    sent = False

    async def send(stream: ByteStream) -> None:
        nonlocal sent
        await stream.send_vectored([data[: LARGE_BYTES // 2], data[LARGE_BYTES // 2 :]])
        sent = True

    async with _connected(network) as ends, anyio.create_task_group() as tasks:
        tasks.start_soon(send, ends.near)
        first = await receive_exactly(ends.far, 1)
        expect(sent, False)
        if first + await receive_exactly(ends.far, LARGE_BYTES - 1) != data:
            raise AssertionError("a large send did not arrive as it was")


async def a_receive_takes_what_there_is(network: Network) -> None:
    """A receive returns at least one byte and no more than fit, without waiting for more."""
    async with _connected(network) as ends:
        await ends.near.send_vectored([b"abc"])
        buffer = bytearray(b"......")
        got = b""
        while len(got) < 3:
            count = await ends.far.receive_into(memoryview(buffer))
            if not 1 <= count <= 3:
                raise AssertionError(f"a receive returned {count}")
            got += buffer[:count]
        expect(got, b"abc")
        await ends.near.send_vectored([b"defg"])
        expect(await ends.far.receive_into(memoryview(buffer)[:1]), 1)
        expect(bytes(buffer[:1]), b"d")
        expect(await receive_exactly(ends.far, 3), b"efg")


async def both_directions_work_at_once(network: Network) -> None:
    """Each end sends and receives at the same time, more than is held on the way."""
    there, back = bytes(LARGE_BYTES // 4), b"\xff" * (LARGE_BYTES // 4)
    got: dict[str, bytes] = {}

    async def receive(name: str, stream: ByteStream, size: int) -> None:
        got[name] = await receive_exactly(stream, size)

    async with _connected(network) as ends:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive, "far", ends.far, len(there))
            tasks.start_soon(receive, "near", ends.near, len(back))
            tasks.start_soon(ends.near.send_vectored, [there])
            tasks.start_soon(ends.far.send_vectored, [back])
        if got != {"far": there, "near": back}:
            raise AssertionError("the two directions were mixed up")


async def connections_are_apart(network: Network) -> None:
    """Two connections to one listener have nothing to do with each other."""
    with closing(await network.listen(LISTEN_ADDR)) as listener:
        first = Ends(await network.connect(listener.local_addr), await listener.accept())
        second = Ends(await network.connect(listener.local_addr), await listener.accept())
    with closing(first.near), closing(first.far), closing(second.near), closing(second.far):
        await second.near.send_vectored([b"2"])
        await first.near.send_vectored([b"1"])
        expect(await receive_exactly(first.far, 1), b"1")
        first.near.close()
        expect(await receive_exactly(second.far, 1), b"2")
        await second.far.send_vectored([b"3"])
        expect(await receive_exactly(second.near, 1), b"3")


# -- cancelling -------------------------------------------------------------------------------


async def a_cancelled_receive_loses_nothing(network: Network) -> None:
    """Bytes that a cancelled receive did not return are there for the next one."""
    expected = bytes(range(200))
    got = bytearray()
    async with _connected(network) as ends:
        await ends.near.send_vectored([expected])
        one = bytearray(1)
        while len(got) < len(expected):
            count = 0
            with anyio.CancelScope() as scope:
                scope.cancel()
                count = await ends.far.receive_into(memoryview(one))
            if not count:
                count = await ends.far.receive_into(memoryview(one))
            got += one[:count]
        expect(bytes(got), expected)


async def a_cancelled_wait_can_be_repeated(network: Network) -> None:
    """So can an accept, and a receive that was already waiting."""
    with closing(await network.listen(LISTEN_ADDR)) as listener:
        await _start_and_cancel(listener.accept)
        near = await network.connect(listener.local_addr)
        far = await listener.accept()
    with closing(near), closing(far):
        buffer = memoryview(bytearray(1))
        await _start_and_cancel(lambda: far.receive_into(buffer))
        await near.send_vectored([b"x"])
        expect(await receive_exactly(far, 1), b"x")


# -- the end ----------------------------------------------------------------------------------


async def the_end_of_one_direction_leaves_the_other(network: Network) -> None:
    """``send_eof`` ends one direction, behind what was sent; the other goes on."""
    async with _connected(network) as ends:
        await ends.near.send_vectored([b"last words"])
        await ends.near.send_eof()
        expect(await receive_exactly(ends.far, 10), b"last words")
        for _ in range(2):  # and it stays at its end
            expect(await ends.far.receive_into(memoryview(bytearray(1))), 0)
        await ends.far.send_vectored([b"heard"])
        expect(await receive_exactly(ends.near, 5), b"heard")
        await _raises(StreamError, lambda: ends.near.send_vectored([b"after the end"]))


async def what_was_sent_before_a_close_arrives(network: Network) -> None:
    """An end that has heard everything closes: the other gets what was sent, and the end."""
    async with _connected(network) as ends:
        await ends.near.send_vectored([bytes(1000)])
        ends.near.close()
        ends.near.close()  # harmless
        expect(await receive_exactly(ends.far, 1000), bytes(1000))
        expect(await ends.far.receive_into(memoryview(bytearray(1))), 0)


async def a_closed_stream_says_so(network: Network) -> None:
    """Every call on an end that was closed raises :class:`StreamClosedError`."""
    async with _connected(network) as ends:
        ends.near.close()
        await _raises(StreamClosedError, lambda: ends.near.send_vectored([b"x"]))
        await _raises(StreamClosedError, lambda: ends.near.receive_into(memoryview(bytearray(1))))


async def closing_wakes_who_waits(network: Network) -> None:
    """A receive and a send that wait when their end is closed raise as well."""
    errors: list[BaseException] = []

    async def receive(stream: ByteStream) -> None:
        errors.append(
            await _raises(StreamClosedError, lambda: stream.receive_into(memoryview(bytearray(1))))
        )

    async def send(stream: ByteStream) -> None:
        errors.append(
            await _raises(StreamClosedError, lambda: stream.send_vectored([bytes(LARGE_BYTES)]))
        )

    async with _connected(network) as ends, anyio.create_task_group() as tasks:
        tasks.start_soon(receive, ends.near)
        tasks.start_soon(send, ends.near)
        await receive_exactly(ends.far, 1024)
        await anyio.wait_all_tasks_blocked()
        ends.near.close()
    expect(len(errors), 2)


async def a_reset_is_a_broken_stream(network: Network) -> None:
    """A peer that closes without having listened breaks the stream, both ways."""
    async with _connected(network) as ends:
        await ends.near.send_vectored([b"nobody reads this"])
        await ends.far.receive_into(memoryview(bytearray(1)))  # the rest is there too
        ends.far.close()
        await _raises(StreamBrokenError, lambda: ends.near.receive_into(memoryview(bytearray(1))))
        await _raises(StreamBrokenError, lambda: ends.near.send_vectored([b"x"]))


async def talking_to_a_closed_end_fails(network: Network) -> None:
    """Who goes on sending to an end that was closed is told, even if it has to send a lot."""

    async def send_for_ever(stream: ByteStream) -> None:
        while True:
            await stream.send_vectored([bytes(65536)])

    async with _connected(network) as ends:
        ends.far.close()
        await _raises(StreamBrokenError, lambda: send_for_ever(ends.near))


async def a_message_that_ends_early_is_an_error(network: Network) -> None:
    """:func:`receive_exactly` does not return less than it was asked for."""
    async with _connected(network) as ends:
        await ends.near.send_vectored([b"half"])
        ends.near.close()
        await _raises(StreamBrokenError, lambda: receive_exactly(ends.far, 8))


# -- listening and connecting -----------------------------------------------------------------


async def nobody_listens_is_a_broken_stream(network: Network) -> None:
    """Connecting to where nobody listens any more fails."""
    listener = await network.listen(LISTEN_ADDR)
    listener.close()
    await _raises(StreamBrokenError, lambda: network.connect(listener.local_addr))


async def a_taken_address_is_a_broken_stream(network: Network) -> None:
    """An address has one listener at a time, and can be had again after it was closed."""
    with closing(await network.listen(LISTEN_ADDR)) as listener:
        await _raises(StreamBrokenError, lambda: network.listen(listener.local_addr))
    again = await network.listen(listener.local_addr)
    again.close()


async def closing_a_listener_ends_an_accept(network: Network) -> None:
    """One that waits, and every later one."""
    listener = await network.listen(LISTEN_ADDR)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_raises, StreamClosedError, listener.accept)
        await anyio.wait_all_tasks_blocked()
        listener.close()
        listener.close()  # harmless
    await _raises(StreamClosedError, listener.accept)


STREAM_CHECKS: tuple[StreamCheck, ...] = (
    all_bytes_arrive_in_order,
    many_buffers_go_at_once,
    a_large_send_waits_and_arrives,
    a_receive_takes_what_there_is,
    both_directions_work_at_once,
    connections_are_apart,
    a_cancelled_receive_loses_nothing,
    a_cancelled_wait_can_be_repeated,
    the_end_of_one_direction_leaves_the_other,
    what_was_sent_before_a_close_arrives,
    a_closed_stream_says_so,
    closing_wakes_who_waits,
    a_reset_is_a_broken_stream,
    talking_to_a_closed_end_fails,
    a_message_that_ends_early_is_an_error,
    nobody_listens_is_a_broken_stream,
    a_taken_address_is_a_broken_stream,
    closing_a_listener_ends_an_accept,
)


@asynccontextmanager
async def _connected(network: Network) -> AsyncIterator[Ends]:
    with closing(await network.listen(LISTEN_ADDR)) as listener:
        near = await network.connect(listener.local_addr)
        far = await listener.accept()
    with closing(near), closing(far):
        yield Ends(near, far)


async def _start_and_cancel(call: Callable[[], Awaitable[object]]) -> None:
    """Let ``call`` begin to wait, and cancel it."""

    async def begin() -> None:
        await call()
        raise AssertionError("a call returned although there was nothing for it")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(begin)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def _raises(kind: type[StreamError], call: Callable[[], Awaitable[object]]) -> BaseException:
    try:
        result = await call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, but it returned {result!r}")
