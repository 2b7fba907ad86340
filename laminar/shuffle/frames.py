"""Frames: the fixed header, and a decoder that does no I/O.

A connection starts with an 8-byte preface in each direction (magic and the range of protocol
versions spoken), followed by frames. A frame is a 16-byte little-endian header and a body::

    length u32 | kind u8 | flags u8 | channel u16 | sequence u64 | body (length bytes)

``sequence`` numbers the frames of a channel from 1 and is 0 for frames that belong to the
connection. See ``docs/design/wire.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import pyarrow as pa

from laminar.errors import ProtocolError

PREFACE = struct.Struct("<4sHH")
MAGIC = b"LMNR"
_TLS = (b"\x15\x03", b"\x16\x03")
"""How an alert and a handshake of TLS begin."""
VERSION_MIN = 1
VERSION_MAX = 1

HEADER = struct.Struct("<IBBHQ")
HEADER_BYTES = HEADER.size

GREETING_BODY_BYTES_MAX = 4 * 1024
"""Largest frame of a peer that has not introduced itself yet."""

CONTROL_BODY_BYTES_MAX = 256 * 1024
"""Largest frame that is not data: a ``Welcome`` that names every channel."""

SCRATCH_BYTES = 256 * 1024
"""Size of the buffer that small frames are parsed in."""

DIRECT_BYTES_MIN = SCRATCH_BYTES // 4
"""A larger frame that is not yet complete gets memory of its own."""

READ_AHEAD_BYTES = 4 * 1024
"""How much is read past a large body: enough for the next header, too little to copy twice."""


class Kind:
    """What a frame carries. Those up to 15 are numbered within their channel.

    Plain integers rather than an enumeration, whose members cost a call to compare or pack.
    """

    DATA: Final = 1
    BARRIER: Final = 2
    WATERMARK: Final = 3
    END: Final = 4
    HELLO: Final = 16
    WELCOME: Final = 17
    OPEN: Final = 18
    CREDIT: Final = 19
    PING: Final = 20
    PONG: Final = 21
    CLOSE: Final = 22
    CHALLENGE: Final = 23
    PROOF: Final = 24
    FORGET: Final = 25


KIND_NAMES: Final = {value: name for name, value in vars(Kind).items() if isinstance(value, int)}
SEQUENCED_MAX: Final = 15


class Flag:
    """Bits of a DATA frame's header."""

    VNODE: Final = 1
    """The body starts with a vnode (i64)."""
    STREAM_START: Final = 2
    """The body starts a new Arrow IPC stream: it begins with the schema."""
    KNOWN: Final = 3


Body: TypeAlias = bytes | pa.Buffer


class Frame(NamedTuple):
    """One decoded frame. ``body`` owns its memory."""

    kind: int
    flags: int
    channel: int
    sequence: int
    body: Body

    def body_bytes(self) -> bytes:
        """The body of a control frame."""
        return self.body if isinstance(self.body, bytes) else self.body.to_pybytes()


def encode_preface() -> bytes:
    """The first eight bytes of this side of a connection."""
    return PREFACE.pack(MAGIC, VERSION_MIN, VERSION_MAX)


def negotiate(preface: bytes) -> int:
    """The newest protocol version that both sides speak.

    Raises :class:`~laminar.errors.ProtocolError` when ``preface`` is not one of this
    protocol, or the two ranges do not meet.
    """
    magic, low, high = PREFACE.unpack(preface)
    if magic != MAGIC:
        hint = " (TLS: set ShuffleConfig.tls on both sides)" if preface[:2] in _TLS else ""
        raise ProtocolError("magic", f"not a Laminar peer: it began with {preface[:4]!r}{hint}")
    version = min(high, VERSION_MAX)
    if low > high or version < max(low, VERSION_MIN):
        raise ProtocolError(
            "version",
            f"the peer speaks versions {low} to {high}, this side {VERSION_MIN} to {VERSION_MAX}",
        )
    return int(version)


def encode_frame(
    kind: int, body: bytes = b"", *, flags: int = 0, channel: int = 0, sequence: int = 0
) -> bytes:
    """A frame with a small body as one piece."""
    return HEADER.pack(len(body), kind, flags, channel, sequence) + body


Admit: TypeAlias = Callable[[int, int], None]
"""Called with (channel, length) before memory is taken for a large DATA body; may raise."""


class FrameDecoder:
    """Cuts received bytes into frames, and says where to receive the next bytes.

    Small frames are copied out of a scratch buffer that is parsed in place. A body that does
    not end within the scratch gets its own buffer, into which the rest is received directly,
    so a large batch is written once, where Arrow will read it.

    The loop is: receive into :meth:`buffer`, then pass the count to :meth:`received`.
    """

    def __init__(self, admit: Admit) -> None:
        self.data_bytes_max = 0
        """Largest body of a DATA frame; 0 until the handshake is over."""
        self.control_bytes_max = GREETING_BODY_BYTES_MAX
        """Largest body of any other frame."""
        self._admit = admit
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._start = 0
        self._end = 0
        self._read_bytes = SCRATCH_BYTES
        self._announced: tuple[tuple[int, int, int, int], int] | None = None
        """Header and length of a large body that begins in the scratch."""
        self._partial: _Partial | None = None
        self._error: ProtocolError | None = None

    def open_for_data(self, admit: Admit, data_bytes_max: int) -> None:
        """The handshake is over: larger frames may come, if ``admit`` lets them."""
        self._admit = admit
        self.data_bytes_max = data_bytes_max
        self.control_bytes_max = CONTROL_BODY_BYTES_MAX

    def buffer(self) -> memoryview:
        """Where the next received bytes belong; never empty.

        Raises :class:`~laminar.errors.ProtocolError` when a large body begins that is not
        admitted, or when a frame that may not be followed good ones: only now, when all frames
        before it have been acted on.
        """
        if self._error is not None:
            raise self._error
        if self._announced is not None:
            self._begin_body(*self._announced)
        if self._partial is not None:
            return self._partial.rest()
        if self._start:
            rest = self._end - self._start
            self._scratch[:rest] = self._scratch[self._start : self._end]
            self._start, self._end = 0, rest
        return self._scratch[self._end : self._end + self._read_bytes]

    @property
    def idle(self) -> bool:
        """True between two frames: the stream may end here without loss."""
        return self._partial is None and self._start == self._end

    def received(self, count: int) -> list[Frame]:
        """Take note of ``count`` bytes received into :meth:`buffer`; return finished frames.

        Raises :class:`~laminar.errors.ProtocolError` on a frame that may not be; the
        decoder is of no use afterwards.
        """
        if self._partial is not None:
            return self._received_body(self._partial, count)
        self._end += count
        if count == self._read_bytes:
            self._read_bytes = min(self._read_bytes * 4, SCRATCH_BYTES)
        return self._parse()

    def _received_body(self, partial: _Partial, count: int) -> list[Frame]:
        partial.filled += count
        if partial.filled < len(partial.view):
            return []
        self._partial = None
        self._read_bytes = READ_AHEAD_BYTES
        return [Frame(*partial.header, partial.body)]

    def _parse(self) -> list[Frame]:
        frames: list[Frame] = []
        scratch, start, end = self._scratch, self._start, self._end
        unchecked_max = min(self.data_bytes_max, self.control_bytes_max)
        unpack = HEADER.unpack_from
        append = frames.append
        new = tuple.__new__  # half the price of calling the named tuple
        while end - start >= HEADER_BYTES:
            length, kind, flags, channel, sequence = unpack(scratch, start)
            body = start + HEADER_BYTES
            stop = body + length
            if stop > end or length > unchecked_max or kind not in KIND_NAMES:
                self._error = self._refusal(kind, length)
                if self._error is not None:
                    if not frames:
                        raise self._error
                    break
                if stop > end:
                    if stop - start > DIRECT_BYTES_MIN:
                        self._announced = (kind, flags, channel, sequence), length
                    break
            append(new(Frame, (kind, flags, channel, sequence, bytes(scratch[body:stop]))))
            start = stop
        self._start, self._end = start, end
        return frames

    def _refusal(self, kind: int, length: int) -> ProtocolError | None:
        if kind not in KIND_NAMES:
            return ProtocolError("kind", f"unknown frame kind {kind}")
        limit = self.data_bytes_max if kind == Kind.DATA else self.control_bytes_max
        if length > limit:
            return ProtocolError(
                "size", f"a {KIND_NAMES[kind]} frame of {length} bytes exceeds the limit of {limit}"
            )
        return None

    def _begin_body(self, header: tuple[int, int, int, int], length: int) -> None:
        """Move the beginning of a large body, at the front of the scratch, to its own memory."""
        if header[0] == Kind.DATA:
            self._admit(header[2], length)
        partial = _Partial(header, pa.allocate_buffer(length))
        beginning = self._scratch[self._start + HEADER_BYTES : self._end]
        partial.filled = len(beginning)
        partial.view[: partial.filled] = beginning
        self._start = self._end = 0
        self._announced, self._partial = None, partial


class _Partial:
    """A large body under way: its header's (kind, flags, channel, sequence), and its memory."""

    __slots__ = ("body", "filled", "header", "view")

    def __init__(self, header: tuple[int, int, int, int], body: pa.Buffer) -> None:
        self.header = header
        self.body = body
        self.view = memoryview(body).cast("B")
        self.filled = 0

    def rest(self) -> memoryview:
        return self.view[self.filled :]
