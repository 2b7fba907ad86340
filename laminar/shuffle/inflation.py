"""How large a compressed body becomes, read before anything is allocated for it.

Arrow compresses each buffer of a batch by itself and puts its full length in front, and pyarrow
allocates what that says: 17 KB of zstd make half a gigabyte. So the lengths are summed up first.
What is read here is a small part of the encapsulated message format and of Message.fbs (Arrow
columnar format, "Serialization and Interprocess Communication"); anything that does not look
like it is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa

from laminar.errors import ProtocolError

CONTINUATION = 0xFFFFFFFF
DICTIONARY_BATCH, RECORD_BATCH = 2, 3
"""Of ``MessageHeader``, those that have a body."""
STORED = -1
"""In place of the length of a buffer that did not become smaller."""

_U8, _U16, _U32 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")
_I32, _I64, _BUFFER = struct.Struct("<i"), struct.Struct("<q"), struct.Struct("<qq")


def inflated_bytes(body: bytes | pa.Buffer, start: int = 0) -> int:
    """Bytes that the compressed buffers in ``body`` from ``start`` on take when inflated.

    Raises :class:`~laminar.errors.ProtocolError` (``arrow``) when it is not a series of Arrow
    IPC messages.
    """
    try:
        return sum(
            _of_message(message, data) for message, data in _messages(memoryview(body), start)
        )
    except struct.error as error:
        raise ProtocolError("arrow", f"the messages of a body are cut short: {error}") from error


def _messages(body: memoryview, start: int) -> Iterator[tuple[_Table, memoryview]]:
    """The ``Message`` table of every message that has one, and the data behind it."""
    while start < len(body):
        (length,) = _U32.unpack_from(body, start)
        start += _U32.size
        if length == CONTINUATION:
            (length,) = _U32.unpack_from(body, start)
            start += _U32.size
        if length == 0:
            return  # the end of the stream, in Arrow's words
        metadata = body[start : start + length]
        message = _Table(metadata, _offset(metadata, 0))
        data_bytes = message.i64(3)
        start += length
        if not 0 <= data_bytes <= len(body) - start:
            raise ProtocolError("arrow", f"a message names {data_bytes} bytes of data")
        yield message, body[start : start + data_bytes]
        start += data_bytes


def _of_message(message: _Table, data: memoryview) -> int:
    kind = message.u8(1)
    if kind not in (DICTIONARY_BATCH, RECORD_BATCH):
        return 0
    batch = message.table(2)
    if batch is not None and kind == DICTIONARY_BATCH:
        batch = batch.table(1)
    if message.has(4):
        # Where Arrow 0.17 said how a batch is compressed, which pyarrow still understands.
        raise ProtocolError("arrow", "a batch with metadata of its own")
    if batch is None or not batch.has(3):
        return 0
    return sum(_of_buffer(data, offset, length) for offset, length in batch.buffers(2))


def _of_buffer(data: memoryview, offset: int, length: int) -> int:
    if length == 0:
        return 0
    if not 0 <= offset <= len(data) - length or length < _I64.size:
        raise ProtocolError("arrow", f"a compressed buffer of {length} bytes at {offset}")
    (inflated,) = _I64.unpack_from(data, offset)
    if inflated == STORED:
        return 0
    if inflated < 0:
        raise ProtocolError("arrow", f"a compressed buffer of {inflated} bytes")
    return int(inflated)


class _Table:
    """A table of a flatbuffer. Fields are named by their place in the schema."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self._position = position
        (back,) = _I32.unpack_from(data, position)
        self._vtable = _inside(data, position - back)
        (self._vtable_bytes,) = _U16.unpack_from(data, self._vtable)

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return self._place(field) is not None

    def u8(self, field: int) -> int:
        """A byte, 0 when it is not there."""
        place = self._place(field)
        return 0 if place is None else int(_U8.unpack_from(self._data, place)[0])

    def i64(self, field: int) -> int:
        """A signed 64-bit integer, 0 when it is not there."""
        place = self._place(field)
        return 0 if place is None else int(_I64.unpack_from(self._data, place)[0])

    def table(self, field: int) -> _Table | None:
        """Another table."""
        place = self._place(field)
        return None if place is None else _Table(self._data, _offset(self._data, place))

    def buffers(self, field: int) -> Iterator[tuple[int, int]]:
        """A vector of ``Buffer``: offset and length of each."""
        place = self._place(field)
        if place is None:
            return
        vector = _offset(self._data, place)
        (count,) = _U32.unpack_from(self._data, vector)
        for number in range(count):
            offset, length = _BUFFER.unpack_from(
                self._data, vector + _U32.size + number * _BUFFER.size
            )
            yield offset, length

    def _place(self, field: int) -> int | None:
        entry = 2 * _U16.size + field * _U16.size
        if entry + _U16.size > self._vtable_bytes:
            return None
        (inside,) = _U16.unpack_from(self._data, self._vtable + entry)
        return self._position + int(inside) if inside else None


def _offset(data: memoryview, place: int) -> int:
    """Where the unsigned offset at ``place`` leads."""
    return _inside(data, place + int(_U32.unpack_from(data, place)[0]))


def _inside(data: memoryview, place: int) -> int:
    if not 0 <= place < len(data):
        raise ProtocolError("arrow", f"a message refers to its byte {place} of {len(data)}")
    return place
