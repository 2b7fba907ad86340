"""Messages as MessagePack: maps with known keys, checked field by field, within a size.

::

    {"v": 2, "k": kind,
     "d": [[node, incarnation, heartbeat, max, gc, max, gc], ...],       the priority lane first
     "c": cookie, "e": echo,
     "u": [[node, incarnation, lane, start, end, gc, [item, ...]], ...],
     "g": [[node, incarnation], ...],
     "s": [[node, incarnation, heartbeat], ...],                         hints
     "b": [start, low bytes, tag],                                       heartbeats
     "q": true,                           only where the answer is to prove an address
     "p": zeros}                          only where the message would be too small otherwise
    item: [key, version, value or nil] or [key, version, value, milliseconds to live]

All but the first three are left out when they are empty, and "d" where "b" stands for it.

What arrives may come from anybody. Nothing is allocated beyond the size of the datagram, and
what is wrong in any field is a :class:`~laminar.errors.ProtocolError`, with the reason
``version`` or ``malformed``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, cast

import msgpack

from laminar.cluster.amplification import COOKIE_BYTES
from laminar.cluster.gossip.messages import (
    LANES,
    Beats,
    Digest,
    Grave,
    Hint,
    Item,
    Kind,
    LaneDelta,
    Message,
)
from laminar.cluster.kv import KEY_LENGTH_MAX
from laminar.errors import ConfigError, ProtocolError
from laminar.model import Incarnation, NodeId, node_id

VERSION: Final = 2
NUMBER_MAX: Final = 2**63 - 1
"""Incarnations, heartbeats and versions."""
TTL_MS_MAX: Final = 2**53

NODE_BYTES_MAX: Final = 2 + 128
_NUMBER_BYTES_MAX: Final = 9
TAG_BYTES: Final = 8
"""Of the tag of heartbeats."""
BASE_BYTES: Final = 1 + 2 * 3 + 2 * (4 + COOKIE_BYTES) + 4 * 5 + 3
"""Of a message without digests, deltas, graves, hints and heartbeats."""
BEATS_OVERHEAD_BYTES: Final = 2 + 1 + _NUMBER_BYTES_MAX + 3 + 2 + TAG_BYTES
"""Of heartbeats beside half a byte for each."""
DIGEST_BYTES_MAX: Final = 1 + NODE_BYTES_MAX + 6 * _NUMBER_BYTES_MAX
ITEM_OVERHEAD_BYTES: Final = 1 + 3 + _NUMBER_BYTES_MAX + 3 + _NUMBER_BYTES_MAX
"""Of an item beside its key and its value."""

_ARRAY: Final = struct.Struct(">BH")
_PADDING_OVERHEAD_BYTES: Final = 2 + 3
_REQUIRED: Final = frozenset("vk")
_KNOWN: Final = frozenset("vkdceugsbqp")


def delta_overhead_bytes(node: str) -> int:
    """Of a delta of that node's slot, beside its items."""
    return 1 + 2 + len(node) + 1 + 4 * _NUMBER_BYTES_MAX + _ARRAY.size


class MessageWriter:
    """Fills one message up to a size."""

    def __init__(
        self, kind: Kind, cookie: bytes, echo: bytes, own: Digest, limit_bytes: int
    ) -> None:
        """Raises :class:`~laminar.errors.ConfigError` when not even the own digest fits."""
        self._kind = kind
        self._cookie = cookie
        self._echo = echo
        self._free = limit_bytes - BASE_BYTES
        self._digests: list[bytes] = []
        self._deltas: list[bytes] = []
        self._graves: list[bytes] = []
        self._hints: list[bytes] = []
        self._beats = b""
        self._limit = limit_bytes
        self._size_min = 0
        self.leaves_out_own = False
        """Whether heartbeats stand for the own digest, if that is the only one."""
        self.asks_proof = False
        """See :attr:`Message.asks_proof`."""
        if not self.add_digest(own):
            raise ConfigError(f"{limit_bytes} bytes are too few for any gossip message")

    @property
    def free_bytes(self) -> int:
        """How much room is left."""
        return self._free

    @property
    def says_more(self) -> bool:
        """Whether there is anything in it beside the own digest."""
        more = len(self._digests) > 1 or self._deltas or self._graves or self._hints
        return bool(more or self._beats)

    def add_digest(self, digest: Digest) -> bool:
        """Add it if it fits, and return whether it does."""
        return self._add(self._digests, _pack(digest))

    def add_grave(self, grave: Grave) -> bool:
        """Add it if it fits, and return whether it does."""
        return self._add(self._graves, _pack(grave))

    def add_hint(self, hint: Hint) -> bool:
        """Add it if it fits, and return whether it does."""
        return self._add(self._hints, _pack(hint))

    def add_beats(self, beats: Beats) -> bool:
        """Say the heartbeats if they fit, and return whether they do."""
        packed = b"\xa1b" + _pack(beats)
        if len(packed) > self._free:
            return False
        self._free -= len(packed)
        self._beats = packed
        return True

    def add_delta(self, delta: LaneDelta) -> LaneDelta | None:
        """Add as many of its first items as fit; return the rest of it, ``None`` if that is none.

        What is left out is left out of the versions that the added part says to hold, too.
        """
        room = self._free - delta_overhead_bytes(delta.node)
        items: list[bytes] = []
        end = delta.start
        for item in delta.items:
            packed = _pack(item if item.ttl_ms is not None else item[:3])
            if len(packed) > room:
                break
            room -= len(packed)
            items.append(packed)
            end = item.version
        if room < 0 or (delta.items and not items):
            return delta
        rest = None
        if len(items) == len(delta.items):
            end = delta.end
        else:
            rest = delta._replace(start=end, items=delta.items[len(items) :])
        head = (delta.node, delta.incarnation, delta.lane, delta.start, end, delta.gc_version)
        body = [b"\x97", *map(_pack, head), _array(len(items)), *items]
        self._add(self._deltas, b"".join(body))
        return rest

    def pad(self, size_bytes: int) -> None:
        """Let the message have about that size at least, if the limit allows."""
        self._size_min = min(size_bytes, self._limit)

    def finish(self) -> bytes:
        """The message's bytes, no more than the limit."""
        brief = self.leaves_out_own and self._beats and len(self._digests) == 1
        sections = (
            (b"d", [] if brief else self._digests),
            (b"u", self._deltas),
            (b"g", self._graves),
        )
        parts = [b"\xa1v", _pack(VERSION), b"\xa1k", _pack(int(self._kind))]
        fields = 2
        for name, cookie in ((b"c", self._cookie), (b"e", self._echo)):
            if cookie:
                parts += (b"\xa1", name, _pack(cookie))
                fields += 1
        for name, rows in (*sections, (b"s", self._hints)):
            if rows:
                parts += (b"\xa1", name, _array(len(rows)), *rows)
                fields += 1
        if self._beats:
            parts.append(self._beats)
            fields += 1
        if self.asks_proof:
            parts += (b"\xa1q", _pack(True))
            fields += 1
        missing = self._size_min - sum(map(len, parts)) - 1
        if missing > _PADDING_OVERHEAD_BYTES:
            parts += (b"\xa1p", _pack(bytes(missing - _PADDING_OVERHEAD_BYTES)))
            fields += 1
        return b"".join([bytes([0x80 + fields]), *parts])

    def _add(self, section: list[bytes], packed: bytes) -> bool:
        if len(packed) > self._free:
            return False
        self._free -= len(packed)
        section.append(packed)
        return True


def decode(payload: bytes) -> Message:
    """The message that ``payload`` holds.

    Raises :class:`~laminar.errors.ProtocolError` when it holds none.
    """
    try:
        fields = msgpack.unpackb(payload)
    except (ValueError, TypeError, RecursionError) as error:
        raise _malformed(f"no MessagePack: {error}") from error
    if not isinstance(fields, dict):
        raise _malformed("a message is a map")
    version = fields.get("v")
    if type(version) is not int or version != VERSION:
        raise ProtocolError("version", f"gossip of version {version!r:.40}, this is {VERSION}")
    if not _REQUIRED <= fields.keys() <= _KNOWN:
        raise _malformed(f"unknown or missing fields: {list(fields)!r:.100}")
    try:
        kind = Kind(_number(fields["k"]))
    except ValueError as error:
        raise _malformed(str(error)) from error
    digests = [_digest(row) for row in _list(fields.get("d", []))]
    if not digests and ("d" in fields or "b" not in fields):
        raise _malformed("no digest of the sender's own")
    return Message(
        kind=kind,
        cookie=_cookie(fields.get("c", b"")),
        echo=_cookie(fields.get("e", b"")),
        digests=digests,
        deltas=[_delta(row) for row in _list(fields.get("u", []))],
        graves=[_grave(row) for row in _list(fields.get("g", []))],
        hints=[_hint(row) for row in _list(fields.get("s", []))],
        beats=_beats(fields["b"]) if "b" in fields else None,
        asks_proof=fields.get("q") is True,
    )


def _array(length: int) -> bytes:
    return bytes([0x90 + length]) if length < 16 else _ARRAY.pack(0xDC, length)


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _digest(row: object) -> Digest:
    # Most of what arrives is digests, so their numbers are checked in one go.
    node, *numbers = _list(row, 7)
    if set(map(type, numbers)) != {int}:
        raise _malformed(f"a digest of {row!r:.200}")
    integers = cast(list[int], numbers)
    if min(integers) < 0 or max(integers) > NUMBER_MAX:
        raise _malformed(f"a digest of {row!r:.200}")
    incarnation, *versions = integers
    return Digest(_node(node), Incarnation(incarnation), *versions)


def _delta(row: object) -> LaneDelta:
    node, incarnation, lane, start, end, gc_version, items = _list(row, 7)
    delta = LaneDelta(
        _node(node),
        Incarnation(_number(incarnation)),
        _number(lane, LANES[-1]),
        _number(start),
        _number(end),
        _number(gc_version),
        [_item(item) for item in _list(items)],
    )
    last = delta.start
    for item in delta.items:
        if item.version <= last:
            raise _malformed(f"version {item.version} after {last}")
        last = item.version
    if not last <= delta.end or delta.start >= delta.end:
        raise _malformed(f"versions {delta.start} to {last} in a delta up to {delta.end}")
    return delta


def _item(row: object) -> Item:
    fields = _list(row)
    if len(fields) not in (3, 4):
        raise _malformed(f"an item of {len(fields)} fields")
    key, version, value = fields[:3]
    ttl_ms = _number(fields[3], TTL_MS_MAX) if len(fields) == 4 else None
    if type(key) is not str or not 1 <= len(key) <= KEY_LENGTH_MAX:
        raise _malformed(f"no key: {key!r:.100}")
    if value is not None and type(value) is not str:
        raise _malformed(f"no value: {value!r:.100}")
    return Item(key, _number(version), value, ttl_ms)


def _grave(row: object) -> Grave:
    node, incarnation = _list(row, 2)
    return Grave(_node(node), Incarnation(_number(incarnation)))


def _hint(row: object) -> Hint:
    node, incarnation, heartbeat = _list(row, 3)
    return Hint(_node(node), Incarnation(_number(incarnation)), _number(heartbeat))


def _beats(row: object) -> Beats:
    start, low, tag = _list(row, 3)
    if type(low) is not bytes or type(tag) is not bytes or len(tag) != TAG_BYTES:
        raise _malformed(f"no heartbeats: {row!r:.100}")
    return Beats(_number(start), low, tag)


def _list(value: object, size: int | None = None) -> Sequence[object]:
    if type(value) is not list or (size is not None and len(value) != size):
        raise _malformed(f"no list of {size or 'any number of'} things: {value!r:.100}")
    return value


def _cookie(value: object) -> bytes:
    if type(value) is not bytes or len(value) not in (0, COOKIE_BYTES):
        raise _malformed(f"no cookie: {value!r:.100}")
    return value


def _number(value: object, maximum: int = NUMBER_MAX) -> int:
    if type(value) is not int or not 0 <= value <= maximum:
        raise _malformed(f"no number from 0 to {maximum}: {value!r:.100}")
    return value


def _node(value: object) -> NodeId:
    if type(value) is not str:
        raise _malformed(f"no node id: {value!r:.100}")
    try:
        return _checked_node(value)
    except ConfigError as error:
        raise _malformed(str(error)) from error


# The same few thousand names come again and again, and one string of each is enough.
_checked_node = lru_cache(maxsize=8192)(node_id)


def _malformed(detail: str) -> ProtocolError:
    return ProtocolError("malformed", detail)
