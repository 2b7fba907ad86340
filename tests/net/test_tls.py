"""Streams inside TLS 1.3: whole, in order, never torn, and between nodes that know each other."""

# Blocks nest here, and what raises is often a whole block.
# ruff: noqa: PT012

import datetime
import os
import random
import ssl
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace

import anyio
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laminar.errors import (
    StreamBrokenError,
    StreamClosedError,
    StreamError,
    StreamUntrustedError,
)
from laminar.model import node_uri
from laminar.net.stream import receive_exactly
from laminar.net.tcp import TcpNetwork
from laminar.net.tls import RECORD_BYTES, TlsNetwork, TlsStream, _pieces, certified
from laminar.testing.certificates import Authority
from tests.wiring import KIB, MIB, limited, silent_listener

TICKLISH = [0, 1, 100, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 256 * KIB, 256 * KIB + 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder)


@pytest.fixture(scope="module")
def mine(authority):
    return authority.certify("a")


@pytest.fixture(scope="module")
def yours(authority):
    return authority.certify("b")


class Meddler:
    """TCP, but what is received is what ``meddle`` makes of it, and sends wait while held."""

    def __init__(self, meddle=lambda data: data, chunk=MIB) -> None:
        self.meddle = meddle
        self.chunk = chunk
        self.streams = []
        self._tcp = TcpNetwork()

    async def connect(self, addr):
        return self._meddled(await self._tcp.connect(addr))

    async def listen(self, addr):
        return await self._tcp.listen(addr)

    def _meddled(self, stream):
        self.streams.append(_MeddledStream(stream, self))
        return self.streams[-1]


class _MeddledStream:
    def __init__(self, stream, meddler) -> None:
        self._stream, self._meddler = stream, meddler
        self.send_vectored, self.send_eof = stream.send_vectored, stream.send_eof
        self.closed = False

    async def receive_into(self, buffer):
        count = await self._stream.receive_into(buffer[: self._meddler.chunk])
        buffer[:count] = self._meddler.meddle(bytes(buffer[:count]))
        return count

    def close(self):
        self.closed = True
        self._stream.close()


@asynccontextmanager
async def connected(mine, yours, network=None):
    """The end that connects, and the one that accepts, after the handshake."""
    with closing(await TlsNetwork(TcpNetwork(), yours).listen("127.0.0.1:0")) as listener:
        ends = []

        async def accept():
            ends.append(await listener.accept())
            await ends[0].handshake()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            near = await TlsNetwork(network or TcpNetwork(), mine).connect(listener.local_addr)
    with closing(near), closing(ends[0]):
        yield near, ends[0]


async def refused(connect, accept_as):
    """How a connection fails, at the end that connects and at the one that accepts."""
    with closing(await accept_as.listen("127.0.0.1:0")) as listener:
        errors = []

        async def attempt(action):
            try:
                await action()
            except StreamError as error:
                errors.append(error)

        async def accept():
            with closing(await listener.accept()) as stream:
                await stream.handshake()
                await stream.receive_into(memoryview(bytearray(1)))

        async def dial():
            with closing(await connect(listener.local_addr)) as stream:
                await stream.send_vectored([b"x"])
                await stream.receive_into(memoryview(bytearray(1)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt, accept)
            tasks.start_soon(attempt, dial)
        return errors


# -- bytes ------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.sampled_from(TICKLISH), st.integers(0, 3 * RECORD_BYTES))))
def test_pieces_are_the_buffers_and_few(sizes):
    buffers = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    pieces = list(_pieces(buffers))
    assert b"".join(pieces) == b"".join(buffers)
    assert len(pieces) <= 1 + 2 * sum(sizes) // RECORD_BYTES


@pytest.mark.parametrize("chunk", [1, 1000, MIB])
@limited
async def test_what_is_sent_arrives_in_order_whatever_the_sizes(mine, yours, chunk):
    rng = random.Random(chunk)
    sizes = TICKLISH if chunk > 1 else [0, 1, 100, 5000]
    pieces = [rng.randbytes(size) for size in sizes]
    expected = b"".join(pieces)
    given = [pa.py_buffer(p) if n % 2 else memoryview(p) for n, p in enumerate(pieces)]
    async with connected(mine, yours, Meddler(chunk=chunk)) as (near, far):
        received = b""

        async def receive():
            nonlocal received
            buffer = memoryview(bytearray(40 * KIB))
            while len(received) < len(expected):
                count = await near.receive_into(buffer[: rng.randrange(1, len(buffer))])
                received += bytes(buffer[:count])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await far.send_vectored(given)
        assert received == expected


@limited
async def test_both_directions_flow_at_once(mine, yours):
    """Far more than the kernel holds, so that each side must receive in order to send."""
    there, back = os.urandom(12 * MIB), os.urandom(12 * MIB)
    async with connected(mine, yours) as (near, far):
        arrived = {}

        async def receive(name, stream):
            arrived[name] = await receive_exactly(stream, 12 * MIB)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(near.send_vectored, [there])
            tasks.start_soon(far.send_vectored, [back])
            tasks.start_soon(receive, "there", far)
            tasks.start_soon(receive, "back", near)
        assert arrived == {"there": there, "back": back}


@limited
async def test_nothing_is_readable_on_the_way(mine, yours):
    seen = []
    async with connected(mine, yours, Meddler(lambda data: seen.append(data) or data)) as (a, b):
        await b.send_vectored([b"a very secret secret" * 100])
        await receive_exactly(a, 2000)
    assert b"secret" not in b"".join(seen)


@limited
async def test_the_end_of_one_direction_leaves_the_other_open(mine, yours):
    async with connected(mine, yours) as (near, far):
        await far.send_vectored([b"not read yet" * 1000])
        assert await receive_exactly(near, 12) == b"not read yet"  # and more lies there already
        await near.send_vectored([b"last words"])
        await near.send_eof()
        assert await receive_exactly(far, 10) == b"last words"
        assert await far.receive_into(memoryview(bytearray(1))) == 0
        assert await far.receive_into(memoryview(bytearray(1))) == 0
        await far.send_vectored([b"heard"])
        assert await receive_exactly(near, 12 * 999) == b"not read yet" * 999
        assert await receive_exactly(near, 5) == b"heard"
        await far.send_eof()
        assert await near.receive_into(memoryview(bytearray(1))) == 0


@limited
async def test_an_end_without_goodbye_is_a_broken_stream(mine, yours):
    """Somebody on the way may have cut it."""
    network = Meddler()
    async with connected(mine, yours, network) as (near, far):
        await near.send_vectored([b"hello"])
        assert await receive_exactly(far, 5) == b"hello"
        await network.streams[0].send_eof()
        with pytest.raises(StreamBrokenError, match="without the goodbye"):
            await far.receive_into(memoryview(bytearray(1)))


@limited
async def test_a_flipped_bit_is_noticed(mine, yours):
    network = Meddler()
    async with connected(mine, yours, network) as (near, far):
        network.meddle = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        await far.send_vectored([b"hello"])
        with pytest.raises(StreamBrokenError, match="not what the peer encrypted"):
            await near.receive_into(memoryview(bytearray(5)))
        assert network.streams[0].closed


@limited
async def test_a_cancelled_send_leaves_no_torn_record(mine, yours):
    async with connected(mine, yours) as (near, far):
        with anyio.move_on_after(0.05) as scope:
            await near.send_vectored([bytes(64 * MIB)])  # nobody reads
        assert scope.cancelled_caught
        with pytest.raises(StreamClosedError):
            await near.send_vectored([b"x"])
        buffer = memoryview(bytearray(MIB))
        with pytest.raises(StreamError):
            while await far.receive_into(buffer):
                assert not any(buffer[:16])


@limited
async def test_a_cancelled_receive_loses_nothing(mine, yours):
    async with connected(mine, yours) as (near, far):
        for number in range(20):
            with anyio.move_on_after(0):
                await far.receive_into(memoryview(bytearray(1)))
            await near.send_vectored([bytes([number])])
            assert await receive_exactly(far, 1) == bytes([number])


@limited
async def test_closing_ends_a_pending_receive(mine, yours):
    async with connected(mine, yours) as (near, _far):
        async with anyio.create_task_group() as tasks:

            async def receive():
                with pytest.raises(StreamClosedError):
                    await near.receive_into(memoryview(bytearray(1)))

            tasks.start_soon(receive)
            await anyio.lowlevel.checkpoint()
            near.close()
            near.close()
        with pytest.raises(StreamClosedError):
            await near.send_vectored([b"x"])


# -- the handshake ----------------------------------------------------------------------------


@limited
async def test_both_sides_know_whom_they_talk_to(mine, yours):
    async with connected(mine, yours) as (near, far):
        assert await certified(near) == {node_uri("laminar", "b")}
        assert await certified(far) == {node_uri("laminar", "a")}
        assert near._tls.version() == "TLSv1.3"
        assert not far._tls.session_reused


@limited
async def test_a_plain_stream_certifies_nothing():
    with (
        closing(await TcpNetwork().listen("127.0.0.1:0")) as listener,
        closing(await TcpNetwork().connect(listener.local_addr)) as stream,
    ):
        assert await certified(stream) is None


@limited
async def test_the_first_call_makes_the_handshake(mine, yours):
    """Whichever it is, and if both tasks of a driver begin at once."""
    with closing(await TlsNetwork(TcpNetwork(), yours).listen("127.0.0.1:0")) as listener:
        async with anyio.create_task_group() as tasks:

            async def serve():
                with closing(await listener.accept()) as stream:
                    async with anyio.create_task_group() as both:
                        both.start_soon(stream.send_vectored, [b"hello"])
                        assert await receive_exactly(stream, 5) == b"olleh"

            tasks.start_soon(serve)
            with closing(await TlsNetwork(TcpNetwork(), mine).connect(listener.local_addr)) as near:
                assert await receive_exactly(near, 5) == b"hello"
                await near.send_vectored([b"olleh"])


@limited
async def test_accepting_waits_for_nobodys_handshake(mine, yours):
    with (
        closing(await TlsNetwork(TcpNetwork(), yours).listen("127.0.0.1:0")) as listener,
        closing(await TcpNetwork().connect(listener.local_addr)),
        closing(await listener.accept()) as silent,
    ):
        with anyio.move_on_after(0.05) as scope:
            await silent.handshake()
        assert scope.cancelled_caught
        with pytest.raises(StreamClosedError):
            await silent.handshake()


@limited
async def test_the_caller_limits_the_time_to_connect(mine):
    with silent_listener() as addr, pytest.raises(TimeoutError):
        with anyio.fail_after(0.05):
            await TlsNetwork(TcpNetwork(), mine).connect(addr)


@limited
async def test_a_peer_that_speaks_no_tls_is_refused(mine, yours):
    async def hello(addr):
        stream = await TcpNetwork().connect(addr)
        await stream.send_vectored([b"LMNR\x01\x00\x01\x00" * 100])
        return stream

    errors = await refused(hello, TlsNetwork(TcpNetwork(), yours))
    (error,) = (error for error in errors if isinstance(error, StreamUntrustedError))
    assert error.reason == "tls"
    assert "set ShuffleConfig.tls on both sides" in str(error)

    with closing(await TcpNetwork().listen("127.0.0.1:0")) as listener:
        async with anyio.create_task_group() as tasks:

            async def chatter():
                with closing(await listener.accept()) as stream, suppress(StreamError):
                    await stream.send_vectored([b"HTTP/1.1 400 Bad Request\r\n\r\n"])
                    await stream.receive_into(memoryview(bytearray(KIB)))

            tasks.start_soon(chatter)
            with pytest.raises(StreamUntrustedError, match="set ShuffleConfig"):
                await TlsNetwork(TcpNetwork(), mine).connect(listener.local_addr)


@limited
async def test_a_certificate_of_a_strange_authority_is_refused(tmp_path, mine, yours):
    stranger = Authority(tmp_path, name="stranger").certify("a")
    trusting = replace(stranger, ca=mine.ca)
    errors = await refused(
        TlsNetwork(TcpNetwork(), trusting).connect, TlsNetwork(TcpNetwork(), yours)
    )
    theirs = [error for error in errors if isinstance(error, StreamUntrustedError)]
    assert [error.reason for error in theirs] == ["certificate"]
    assert "see TlsConfig.ca" in str(theirs[0])
    ours = [error for error in errors if isinstance(error, StreamBrokenError)]
    assert len(ours) == 1
    assert "refused this side's certificate" in str(ours[0])


@limited
async def test_a_listener_of_a_strange_authority_is_refused(tmp_path, mine):
    stranger = Authority(tmp_path, name="stranger").certify("b")
    errors = await refused(
        TlsNetwork(TcpNetwork(), mine).connect, TlsNetwork(TcpNetwork(), stranger)
    )
    assert {type(error) for error in errors} == {StreamUntrustedError}
    assert {error.reason for error in errors} == {"certificate"}


@limited
async def test_an_expired_certificate_is_refused(authority, yours):
    expired = authority.certify("a", file="expired", lifetime=datetime.timedelta(hours=-1))
    errors = await refused(
        TlsNetwork(TcpNetwork(), expired).connect, TlsNetwork(TcpNetwork(), yours)
    )
    assert any(
        isinstance(error, StreamUntrustedError) and "expired" in str(error) for error in errors
    )


@pytest.mark.parametrize("how", ["no certificate", "an older TLS"])
@limited
async def test_a_peer_that_does_not_do_its_part_is_refused(yours, mine, how):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(yours.ca)
    if how == "an older TLS":
        context.load_cert_chain(mine.certificate, mine.key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def connect(addr):
        stream = TlsStream(await TcpNetwork().connect(addr), context, server_side=False)
        await stream.handshake()
        return stream

    errors = await refused(connect, TlsNetwork(TcpNetwork(), yours))
    reasons = {error.reason for error in errors if isinstance(error, StreamUntrustedError)}
    assert reasons == {"certificate" if how == "no certificate" else "tls"}


@limited
async def test_certificates_change_without_a_restart(tmp_path):
    authority = Authority(tmp_path)
    mine = authority.certify("a")
    network = TlsNetwork(TcpNetwork(), mine)
    listening = TlsNetwork(TcpNetwork(), authority.certify("b"))
    with closing(await listening.listen("127.0.0.1:0")) as listener, ExitStack() as stack:

        async def connect():
            accepted = []

            async def accept():
                accepted.append(stack.enter_context(closing(await listener.accept())))
                await accepted[0].handshake()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(accept)
                near = stack.enter_context(closing(await network.connect(listener.local_addr)))
            return near, accepted[0]

        old, far = await connect()
        authority.certify("renamed", file="a")
        assert await certified((await connect())[1]) == {node_uri("laminar", "renamed")}
        assert network.statistics().reloads == 1
        assert await certified(far) == {node_uri("laminar", "a")}
        await old.send_vectored([b"still here"])
        assert await receive_exactly(far, 10) == b"still here"
