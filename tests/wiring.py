"""What the tests of the drivers share: time limits, batches, and hands to cut wires with.

Nothing here waits for a fixed time: :func:`eventually` looks again until its condition holds,
and :func:`limited` ends a test in which it never does.
"""

import functools
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager

import anyio
import pyarrow as pa

from laminar.config import ShuffleConfig
from laminar.errors import StreamBrokenError, StreamError
from laminar.model import CheckpointBarrier
from laminar.net.address import parse_addr
from laminar.net.stream import receive_exactly
from laminar.net.tcp import TcpNetwork, TcpStream
from laminar.shuffle import control
from laminar.shuffle.arrow import BatchEncoder
from laminar.shuffle.authentication import key_id
from laminar.shuffle.frames import PREFACE, FrameDecoder, Kind, encode_frame, encode_preface
from laminar.shuffle.messages import Hello

TEST_LIMIT_S = 10

_dialled: list[TcpStream] = []
"""Connections of :class:`Raw` that the running test has not been rid of yet."""

KIB = 1024
MIB = 1024 * KIB

QUICK = ShuffleConfig(
    backoff_initial_s=0.002, backoff_max_s=0.02, reconnect_timeout_s=10, close_timeout_s=10
)
"""The defaults, but for pauses that nobody should have to sit through."""


def limited(test):
    """Fail an asynchronous test that does not end in time; hang up what it dialled by hand."""

    @functools.wraps(test)
    async def within_limit(*args, **kwargs):
        try:
            with anyio.fail_after(TEST_LIMIT_S):
                await test(*args, **kwargs)
        finally:
            while _dialled:
                _dialled.pop().close()

    return within_limit


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds; the test's own limit ends this."""
    while not condition():  # noqa: ASYNC110
        await anyio.sleep(0.001)  # there is no event for whatever it may be


# -- batches ----------------------------------------------------------------------------------


def numbered(start: int, rows: int, row_bytes: int = 0) -> pa.RecordBatch:
    """Rows numbered from ``start``, each with that many bytes beside its number."""
    columns = {"row": pa.array(range(start, start + rows), pa.int64())}
    if row_bytes:
        columns["ballast"] = pa.array([b"x" * row_bytes] * rows, pa.binary())
    return pa.RecordBatch.from_pydict(columns)


def rows_of(batch: pa.RecordBatch) -> list[int]:
    return batch.column("row").to_pylist()


# -- the network ------------------------------------------------------------------------------


def free_addr() -> str:
    """An address at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        host, port = sock.getsockname()
    return f"{host}:{port}"


@contextmanager
def silent_listener(receive_buffer_bytes: int | None = None):
    """The address of somebody who lets everybody connect and never says or reads a thing."""
    with socket.socket() as sock:
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        host, port = sock.getsockname()
        yield f"{host}:{port}"


class Proxy:
    """A TCP connection's middle man, who cuts it.

    Each connection through it is cut, mid-frame and both ways at once, after as many bytes as
    ``next_cut`` says; ``None`` lets it live. While ``open`` is false, newcomers are turned away.
    """

    def __init__(self, target: str, next_cut: Callable[[], int | None] = lambda: None) -> None:
        self.target = target
        self.addr = ""
        self.connections = 0
        self.cuts = 0
        self.forwarded = 0
        self.open = True
        self.swallowing = False
        """Whether bytes vanish without a word, as behind a cable that was cut."""
        self._next_cut = next_cut
        self._current: set[tuple[TcpStream, TcpStream]] = set()
        self._network = TcpNetwork()

    @asynccontextmanager
    async def running(self):
        listener = await self._network.listen("127.0.0.1:0")
        self.addr = listener.local_addr
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._accept, listener, tasks)
            try:
                yield self
            finally:
                listener.close()
                self.cut()
                tasks.cancel_scope.cancel()

    def cut(self) -> None:
        """Cut every connection there is now."""
        for ends in list(self._current):
            for stream in ends:
                stream.close()
            self.cuts += 1
        self._current.clear()

    async def _accept(self, listener, tasks) -> None:
        while True:
            try:
                near = await listener.accept()
            except StreamError:
                return
            if not self.open:
                near.close()
                continue
            tasks.start_soon(self._serve, near)

    async def _serve(self, near: TcpStream) -> None:
        try:
            far = await self._network.connect(self.target)
        except StreamError:
            near.close()
            return
        self.connections += 1
        ends = (near, far)
        self._current.add(ends)
        left = [self._next_cut()]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._pump, near, far, ends, left)
            tasks.start_soon(self._pump, far, near, ends, left)
        self._current.discard(ends)
        near.close()
        far.close()

    async def _pump(self, source, sink, ends, left) -> None:
        buffer = memoryview(bytearray(64 * KIB))
        try:
            while count := await source.receive_into(buffer):
                if left[0] is not None:
                    count = min(count, left[0])
                    left[0] -= count
                if self.swallowing:
                    continue
                await sink.send_vectored([bytes(buffer[:count])])
                self.forwarded += count
                if left[0] == 0:
                    if ends in self._current:
                        self._current.discard(ends)
                        self.cuts += 1
                    break
            else:
                if not self.swallowing:
                    await sink.send_eof()
                return
        except StreamError:
            pass
        if self.swallowing:
            return  # the end of one side is news that does not get through either
        for stream in ends:
            stream.close()


def random_cuts(seed: int, cuts: int, bytes_max: int) -> Callable[[], int | None]:
    """After how many bytes each connection is cut; none after the first ``cuts``."""
    rng = random.Random(seed)
    lengths = [rng.randrange(1, bytes_max) for _ in range(cuts)]
    return lambda: lengths.pop() if lengths else None


class NetworkSpy:
    """TCP, and what went through it: bytes sent per address that was dialled."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.accepts_to_fail = 0
        self._tcp = TcpNetwork()

    async def connect(self, addr: str):
        stream = await self._tcp.connect(addr)
        self.sent.setdefault(addr, 0)
        return _StreamSpy(stream, addr, self.sent)

    async def listen(self, addr: str):
        return _ListenerSpy(await self._tcp.listen(addr), self)


class _StreamSpy:
    def __init__(self, stream, addr, sent) -> None:
        self._stream, self._addr, self._sent = stream, addr, sent
        self.receive_into, self.send_eof = stream.receive_into, stream.send_eof
        self.close = stream.close

    async def send_vectored(self, buffers) -> None:
        self._sent[self._addr] += sum(memoryview(buffer).nbytes for buffer in buffers)
        await self._stream.send_vectored(buffers)


class _ListenerSpy:
    def __init__(self, listener, spy) -> None:
        self._listener, self._spy = listener, spy
        self.local_addr, self.close = listener.local_addr, listener.close

    async def accept(self):
        stream = await self._listener.accept()
        if self._spy.accepts_to_fail:
            self._spy.accepts_to_fail -= 1
            stream.close()
            raise StreamBrokenError("accepting failed: [Errno 24] Too many open files")
        return stream


# -- peers that speak the protocol by hand ----------------------------------------------------


class Raw:
    """A dialling peer made of bytes, which keeps to no rule but what the test says."""

    def __init__(self, stream: TcpStream) -> None:
        self.stream = stream
        self.encoder = BatchEncoder(64 * MIB)
        self.sequence = 0
        self._decoder: FrameDecoder | None = None

    @classmethod
    async def dial(cls, addr: str) -> "Raw":
        raw = cls(await TcpNetwork().connect(addr))
        _dialled.append(raw.stream)
        return raw

    @classmethod
    async def greeted(
        cls, addr: str, node: str = "evil", *, channel: str | None = "default", **how
    ):
        """Connected and welcomed, with ``channel`` known to be open under number 0."""
        raw = await cls.dial(addr)
        await raw.send(encode_preface(), hello(node, **how))
        await raw.frames()
        if channel is not None:
            await raw.send(opening(channel), encode_frame(Kind.PING, sequence=1))
            await raw.frames()
        return raw

    async def send(self, *pieces: bytes) -> None:
        await self.stream.send_vectored([b"".join(pieces)])

    async def send_batch(self, batch: pa.RecordBatch) -> None:
        await self.send(self.data(batch))

    def data(self, batch: pa.RecordBatch, *, channel: int = 0) -> bytes:
        """The next DATA frame."""
        starts, buffers, _ = self.encoder.encode(batch)
        body = b"".join(bytes(buffer) for buffer in buffers)
        return self.frame(Kind.DATA, body, flags=2 if starts else 0, channel=channel)

    def frame(self, kind: int, body: bytes = b"", *, flags: int = 0, channel: int = 0) -> bytes:
        """The next frame of the channel's sequence."""
        self.sequence += 1
        return encode_frame(kind, body, flags=flags, channel=channel, sequence=self.sequence)

    def barrier(self, barrier: CheckpointBarrier) -> bytes:
        """The next frame, a barrier."""
        return self.frame(Kind.BARRIER, control.encode_barrier(barrier, self.sequence))

    async def frames(self):
        """The next frames that the other side sends, at least one."""
        if self._decoder is None:
            await receive_exactly(self.stream, PREFACE.size)
            self._decoder = FrameDecoder(lambda kind, channel, length: None)
            self._decoder.open_for_data(lambda kind, channel, length: None, 0)
        frames = []
        while not frames:
            count = await self.stream.receive_into(self._decoder.buffer())
            if count == 0:
                return []
            frames = self._decoder.received(count)
        return frames

    async def cut_off(self) -> None:
        """Wait until the other side has ended the connection."""
        buffer = memoryview(bytearray(64 * KIB))
        try:
            while await self.stream.receive_into(buffer):
                pass
        except StreamError:
            pass
        self.stream.close()


def hello(
    node: str = "evil",
    *,
    cluster: str = "laminar",
    incarnation: int = 1,
    round: int = 1,  # noqa: A002
    keys: tuple[bytes, ...] = (),
) -> bytes:
    """``keys`` are those it offers to prove."""
    greeting = Hello(cluster, node, incarnation, round, bytes(32), tuple(map(key_id, keys)))
    return encode_frame(Kind.HELLO, control.encode_hello(greeting))


def opening(channel: str, number: int = 0) -> bytes:
    return encode_frame(Kind.OPEN, control.encode_channel_name(channel), channel=number)


def resetting_dial(addr: str, *pieces: bytes) -> None:
    """Connect, send ``pieces`` and reset the connection, all before anybody looks."""
    sock = socket.create_connection(parse_addr(addr))
    sock.sendall(b"".join(pieces))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def raises_within(limit_s: float, action: Callable[[], Awaitable[object]]) -> BaseException:
    """The error that ``action`` raises within ``limit_s``."""
    try:
        with anyio.fail_after(limit_s):
            result = await action()
    except TimeoutError:
        raise AssertionError(f"nothing happened within {limit_s} s") from None
    except Exception as error:  # noqa: BLE001 - handed to the test, which looks at it
        return error
    raise AssertionError(f"nothing was raised, but returned: {result!r}")
