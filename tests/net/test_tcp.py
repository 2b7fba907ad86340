"""TCP streams: whole, in order, never stuck, and every failure a StreamError."""

import os
import resource
import socket
import struct
from contextlib import closing, contextmanager

import anyio
import pyarrow as pa
import pytest
from anyio.lowlevel import checkpoint

from laminar.errors import StreamBrokenError, StreamClosedError
from laminar.net.address import format_addr, parse_addr
from laminar.net.stream import receive_exactly
from laminar.net.tcp import (
    CALLS_BEFORE_YIELD,
    IOV_MAX,
    TcpNetwork,
    TcpStream,
)
from tests.wiring import MIB, eventually, free_addr, limited


async def connected():
    """Two ends of a connection."""
    with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
        near = await TcpNetwork().connect(listener.local_addr)
        return near, await listener.accept()


def lowest_free_descriptor():
    probe = os.dup(0)
    os.close(probe)
    return probe


@contextmanager
def no_descriptor_left():
    """Every attempt to open a file or socket in this block fails with EMFILE."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor(), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# -- bytes ------------------------------------------------------------------------------------


@limited
async def test_more_buffers_than_one_call_takes_arrive_whole_and_in_order():
    pieces = [b"", b"first", memoryview(b"second"), bytearray(b"third"), pa.py_buffer(b"fourth")]
    pieces += [memoryview(bytes(8)).cast("q"), *(bytes([n % 256]) for n in range(3 * IOV_MAX)), b""]
    expected = b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)
    near, far = await connected()
    with closing(near), closing(far):
        await near.send_vectored(pieces)
        assert await receive_exactly(far, len(expected)) == expected


@limited
async def test_a_send_larger_than_the_kernel_holds_waits_and_arrives():
    pieces = [os.urandom(MIB) for _ in range(24)]
    near, far = await connected()
    done = False

    async def send():
        nonlocal done
        await near.send_vectored(pieces)
        done = True

    with closing(near), closing(far):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            first = await receive_exactly(far, MIB)
            assert not done  # the kernel is full, and this is only the first of 24
            assert first + await receive_exactly(far, 23 * MIB) == b"".join(pieces)
        assert done


@limited
async def test_the_end_of_one_direction_leaves_the_other_open():
    near, far = await connected()
    with closing(near), closing(far):
        await near.send_vectored([b"last words"])
        await near.send_eof()
        assert await receive_exactly(far, 10) == b"last words"
        assert await far.receive_into(memoryview(bytearray(1))) == 0
        await far.send_vectored([b"heard"])
        assert await receive_exactly(near, 5) == b"heard"


@limited
async def test_a_message_that_ends_early_is_an_error():
    near, far = await connected()
    with closing(near), closing(far):
        await near.send_vectored([b"half"])
        await near.send_eof()
        with pytest.raises(StreamBrokenError):
            await receive_exactly(far, 8)


@limited
async def test_a_stream_that_never_blocks_lets_others_run():
    near, far = await connected()
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    with closing(near), closing(far):
        await near.send_vectored([bytes(50 * CALLS_BEFORE_YIELD)])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            one = memoryview(bytearray(1))
            for _ in range(50 * CALLS_BEFORE_YIELD):
                await far.receive_into(one)
            tasks.cancel_scope.cancel()
    assert turns >= 40


# -- closing and breaking ---------------------------------------------------------------------


@limited
async def test_closing_ends_a_receive_and_a_send_that_wait():
    near, far = await connected()
    failures = []

    async def receive():
        with pytest.raises(StreamClosedError) as caught:
            await near.receive_into(memoryview(bytearray(1)))
        failures.append(caught.value)

    async def send():
        with pytest.raises(StreamClosedError) as caught:
            await near.send_vectored([bytes(64 * MIB)])
        failures.append(caught.value)

    with closing(far):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(send)
            await receive_exactly(far, MIB)
            near.close()
            near.close()  # harmless
    assert len(failures) == 2
    with pytest.raises(StreamClosedError):
        await near.send_vectored([b"x"])
    with pytest.raises(StreamClosedError):
        await near.receive_into(memoryview(bytearray(1)))


@limited
async def test_a_reset_is_a_broken_stream_both_ways():
    with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
        sock = socket.create_connection(parse_addr(listener.local_addr))
        far = await listener.accept()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    with closing(far):
        with pytest.raises(StreamBrokenError):
            await far.receive_into(memoryview(bytearray(1)))
        with pytest.raises(StreamBrokenError):
            await far.send_vectored([b"x"])


@limited
async def test_a_cancelled_receive_or_accept_can_be_repeated():
    with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
        with anyio.move_on_after(0.01):
            await listener.accept()
        near = await TcpNetwork().connect(listener.local_addr)
        far = await listener.accept()
    with closing(near), closing(far):
        with anyio.move_on_after(0.01):
            await far.receive_into(memoryview(bytearray(1)))
        await near.send_vectored([b"x"])
        assert await receive_exactly(far, 1) == b"x"


@limited
async def test_a_cancelled_receive_loses_nothing_of_a_stream_that_never_blocks():
    near, far = await connected()
    got = bytearray()
    with closing(near), closing(far):
        await near.send_vectored([bytes(range(4 * CALLS_BEFORE_YIELD))])
        one = memoryview(bytearray(1))
        while len(got) < 4 * CALLS_BEFORE_YIELD:
            count = 0
            with anyio.CancelScope() as scope:
                scope.cancel()
                count = await far.receive_into(one)
            got += one[:count]
            await checkpoint()
    assert got == bytes(range(4 * CALLS_BEFORE_YIELD))


@limited
async def test_closing_a_listener_ends_an_accept_that_waits():
    listener = await TcpNetwork().listen("127.0.0.1:0")
    ended = False

    async def accept():
        nonlocal ended
        with pytest.raises(StreamClosedError):
            await listener.accept()
        ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        await checkpoint()
        await checkpoint()
        listener.close()
        listener.close()
    assert ended
    with pytest.raises(StreamClosedError):
        await listener.accept()


# -- connecting and listening -----------------------------------------------------------------


@limited
async def test_nobody_there_is_a_broken_stream():
    with pytest.raises(StreamBrokenError, match="cannot connect"):
        await TcpNetwork().connect(free_addr())


@pytest.mark.parametrize("addr", ["a..b:1", "x" * 64 + ":1", "host\0:1"])
@limited
async def test_a_name_that_cannot_be_resolved_is_a_broken_stream(addr):
    with pytest.raises(StreamBrokenError, match="cannot resolve"):
        await TcpNetwork().connect(addr)


@limited
async def test_a_taken_address_is_a_broken_stream():
    with (
        closing(await TcpNetwork().listen("127.0.0.1:0")) as listener,
        pytest.raises(StreamBrokenError, match="cannot listen"),
    ):
        await TcpNetwork().listen(listener.local_addr)


@limited
async def test_ipv6_has_brackets():
    try:
        listener = await TcpNetwork().listen("[::1]:0")
    except StreamBrokenError:
        pytest.skip("no IPv6 here")
    with closing(listener):
        assert listener.local_addr.startswith("[::1]:")
        near = await TcpNetwork().connect(listener.local_addr)
        far = await listener.accept()
        near.close()
        far.close()


@limited
async def test_accept_survives_a_shortage_of_descriptors():
    with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
        near = await TcpNetwork().connect(listener.local_addr)
        with no_descriptor_left(), pytest.raises(StreamBrokenError, match="Too many open files"):
            await listener.accept()
        far = await listener.accept()
        near.close()
        far.close()


@limited
async def test_dialling_without_a_descriptor_is_a_broken_stream():
    with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
        with no_descriptor_left(), pytest.raises(StreamBrokenError):
            await TcpNetwork().connect(listener.local_addr)
        with no_descriptor_left(), pytest.raises(StreamBrokenError):
            await TcpNetwork().listen("127.0.0.1:0")


@limited
async def test_a_cancelled_connect_leaves_no_descriptor_behind():
    # The listener's queue is full, so that connecting takes for ever.
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        addr = format_addr(*sock.getsockname())
        streams: list[TcpStream] = []
        with anyio.move_on_after(0.2) as scope:
            while True:
                streams.append(await TcpNetwork().connect(addr))
        assert scope.cancelled_caught
        before = lowest_free_descriptor()
        with anyio.move_on_after(0.05):
            await TcpNetwork().connect(addr)
        assert lowest_free_descriptor() == before
        for stream in streams:
            stream.close()


@limited
async def test_a_closed_descriptor_number_that_is_used_again_is_not_mixed_up():
    """A stream that waits while its socket is closed must not wake for its successor."""
    for _ in range(20):
        near, far = await connected()
        woken = []

        async def wait(stream=near, woken=woken):
            with pytest.raises(StreamClosedError):
                await stream.receive_into(memoryview(bytearray(1)))
            woken.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await checkpoint()
            near.close()
            far.close()
            again_near, again_far = await connected()
            await again_far.send_vectored([b"y"])
            assert await receive_exactly(again_near, 1) == b"y"
            await eventually(lambda woken=woken: woken)
            again_near.close()
            again_far.close()
