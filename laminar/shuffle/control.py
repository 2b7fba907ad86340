"""Bodies of the control frames: MessagePack maps with known keys, checked field by field.

What arrives comes from a stranger: every field is checked for presence, type and range, and
whatever is wrong is a :class:`~laminar.errors.ProtocolError` with the reason ``control``.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Mapping
from typing import TypeVar

import msgpack
import pyarrow as pa

from laminar.config import KEYS_MAX
from laminar.errors import ConfigError, ProtocolError
from laminar.model import (
    BarrierFlags,
    CheckpointBarrier,
    CheckpointId,
    Epoch,
    Incarnation,
    NodeId,
    VNode,
    node_id,
)
from laminar.shuffle.authentication import KEY_ID_BYTES, NONCE_BYTES, PROOF_BYTES
from laminar.shuffle.frames import HEADER, Kind
from laminar.shuffle.messages import Challenge, Close, Hello, Proof, Welcome

CHANNEL_NAME_BYTES_MAX = 128
CLUSTER_NAME_LENGTH_MAX = 128
CLOSE_REASON_LENGTH_MAX = 512
U64_MAX = 2**64 - 1
VNODE_MAX = 2**31 - 1

TIMESTAMP = struct.Struct("<q")
"""Body of a WATERMARK frame."""

_WATERMARK_FRAME = struct.Struct(HEADER.format + TIMESTAMP.format.lstrip("<"))

VNODE = struct.Struct("<q")
"""Prefix of a DATA body whose frame has the VNODE flag; eight bytes keep Arrow aligned."""

T = TypeVar("T")


def encode_hello(hello: Hello) -> bytes:
    """The body of a HELLO frame."""
    fields: dict[str, object] = {
        "cluster": hello.cluster,
        "node": hello.node,
        "incarnation": hello.incarnation,
        "round": hello.round,
    }
    if hello.key_ids:
        fields |= {"nonce": hello.nonce, "keys": list(hello.key_ids)}
    return _pack(fields)


def decode_hello(body: bytes) -> Hello:
    """The inverse of :func:`encode_hello`; checks every field."""
    fields = _unpack("Hello", body)
    keyed = "keys" in fields or "nonce" in fields
    return Hello(
        cluster=_text(fields, "cluster", CLUSTER_NAME_LENGTH_MAX),
        node=_node(fields),
        incarnation=Incarnation(_unsigned(fields, "incarnation")),
        round=_unsigned(fields, "round", minimum=1),
        nonce=_bytes(fields, "nonce", NONCE_BYTES) if keyed else b"",
        key_ids=_key_ids(fields) if keyed else (),
    )


def encode_challenge(challenge: Challenge) -> bytes:
    """The body of a CHALLENGE frame."""
    return _pack(
        {
            "node": challenge.node,
            "nonce": challenge.nonce,
            "key": challenge.key_id,
            "proof": challenge.proof,
        }
    )


def decode_challenge(body: bytes) -> Challenge:
    """The inverse of :func:`encode_challenge`; checks every field."""
    fields = _unpack("Challenge", body)
    return Challenge(
        node=_node(fields),
        nonce=_bytes(fields, "nonce", NONCE_BYTES),
        key_id=_bytes(fields, "key", KEY_ID_BYTES),
        proof=_bytes(fields, "proof", PROOF_BYTES),
    )


def encode_proof(proof: Proof) -> bytes:
    """The body of a PROOF frame."""
    return _pack({"proof": proof.proof})


def decode_proof(body: bytes) -> Proof:
    """The inverse of :func:`encode_proof`; checks every field."""
    return Proof(_bytes(_unpack("Proof", body), "proof", PROOF_BYTES))


def encode_welcome(welcome: Welcome) -> bytes:
    """The body of a WELCOME frame."""
    return _pack(
        {
            "node": welcome.node,
            "incarnation": welcome.incarnation,
            "window": welcome.window_bytes,
            "control": welcome.control_frames,
            "resumed": welcome.resumed,
            "channels": dict(welcome.channels),
        }
    )


def decode_welcome(body: bytes) -> Welcome:
    """The inverse of :func:`encode_welcome`; checks every field."""
    fields = _unpack("Welcome", body)
    return Welcome(
        node=_node(fields),
        incarnation=Incarnation(_unsigned(fields, "incarnation")),
        window_bytes=_unsigned(fields, "window", minimum=1),
        control_frames=_unsigned(fields, "control", minimum=1),
        resumed=_flag(fields, "resumed"),
        channels=_channels(fields),
    )


def check_channel_name(name: str) -> None:
    """Raise :class:`~laminar.errors.ConfigError` when a channel cannot have that name."""
    if not isinstance(name, str):
        raise ConfigError(f"a channel's name is a string, got {name!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(f"a channel's name is Unicode text, got {name!r}") from error
    if not 1 <= size <= CHANNEL_NAME_BYTES_MAX:
        raise ConfigError(
            f"a channel's name has 1 to {CHANNEL_NAME_BYTES_MAX} bytes as UTF-8, got {size}"
        )


def encode_channel_name(name: str) -> bytes:
    """The body of an OPEN frame."""
    return _pack({"name": name})


def decode_channel_name(body: bytes) -> str:
    """The inverse of :func:`encode_channel_name`; checks every field."""
    name = _text(_unpack("Open", body), "name", CHANNEL_NAME_BYTES_MAX)
    if len(name.encode()) > CHANNEL_NAME_BYTES_MAX:
        raise ProtocolError("control", f"'name' has more than {CHANNEL_NAME_BYTES_MAX} bytes")
    return name


def encode_close(close: Close) -> bytes:
    """The body of a CLOSE frame; a long reason is cut."""
    return _pack({"reason": close.reason[:CLOSE_REASON_LENGTH_MAX]})


def decode_close(body: bytes) -> Close:
    """The inverse of :func:`encode_close`; checks every field."""
    return Close(_text(_unpack("Close", body), "reason", CLOSE_REASON_LENGTH_MAX, minimum=0))


def encode_barrier(barrier: CheckpointBarrier, last_sequence: int) -> bytes:
    """``last_sequence`` is that of the frame before the barrier on the channel.

    Raises :class:`~laminar.errors.ConfigError` when a number is not unsigned 64-bit or a
    flag unknown.
    """
    flags = int(barrier.flags)
    if flags & ~_KNOWN_BARRIER_FLAGS:
        raise ConfigError(f"a barrier has no flags {flags:#x}")
    return _pack(
        {
            "id": _index("a barrier's checkpoint_id", barrier.checkpoint_id, U64_MAX),
            "epoch": _index("a barrier's epoch", barrier.epoch, U64_MAX),
            "flags": flags,
            "last": last_sequence,
        }
    )


def decode_barrier(body: bytes) -> tuple[CheckpointBarrier, int]:
    """The barrier and the sequence number of the frame before it on the channel."""
    fields = _unpack("Barrier", body)
    flags = _unsigned(fields, "flags")
    if flags & ~_KNOWN_BARRIER_FLAGS:
        raise ProtocolError("control", f"Barrier with unknown flags {flags:#x}")
    barrier = CheckpointBarrier(
        checkpoint_id=CheckpointId(_unsigned(fields, "id")),
        epoch=Epoch(_unsigned(fields, "epoch")),
        flags=BarrierFlags(flags),
    )
    return barrier, _unsigned(fields, "last")


def encode_watermark(timestamp: int, channel: int, sequence: int) -> bytes:
    """A whole WATERMARK frame, in one step because there may be very many of them.

    Raises :class:`~laminar.errors.ConfigError` when it is not a signed 64-bit integer.
    """
    try:
        return _WATERMARK_FRAME.pack(
            TIMESTAMP.size, Kind.WATERMARK, 0, channel, sequence, timestamp
        )
    except struct.error as error:
        raise ConfigError(f"a watermark is a signed 64-bit integer: {timestamp!r}") from error


def decode_timestamp(body: bytes) -> int:
    """The body of a WATERMARK frame."""
    try:
        return TIMESTAMP.unpack(body)[0]  # type: ignore[no-any-return]
    except struct.error as error:
        raise ProtocolError("control", f"Watermark of {len(body)} bytes") from error


def encode_vnode(vnode: int) -> bytes:
    """Raises :class:`~laminar.errors.ConfigError` when it is out of range."""
    return VNODE.pack(_index("a vnode", vnode, VNODE_MAX))


def decode_vnode(body: bytes | pa.Buffer) -> VNode:
    """The vnode at the start of the body of a DATA frame with the VNODE flag."""
    if len(body) < VNODE.size:
        raise ProtocolError("arrow", f"a body of {len(body)} bytes has no room for its vnode")
    (vnode,) = VNODE.unpack_from(body)
    if not 0 <= vnode <= VNODE_MAX:
        raise ProtocolError("arrow", f"vnode {vnode} is out of range")
    return VNode(vnode)


_KNOWN_BARRIER_FLAGS = int(BarrierFlags.SAVEPOINT | BarrierFlags.STOP)


def _index(what: str, value: int, maximum: int) -> int:
    """A number of the caller's, of any integer type, as a plain one."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ConfigError(f"{what} is an integer, got {value!r}") from error
    if not 0 <= number <= maximum:
        raise ConfigError(f"{what} is an integer from 0 to {maximum}, got {value!r}")
    return number


def _pack(fields: Mapping[str, object]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def _unpack(name: str, body: bytes) -> dict[str, object]:
    try:
        fields = msgpack.unpackb(bytes(body))
    except (ValueError, TypeError, RecursionError) as error:
        raise ProtocolError("control", f"{name} is not MessagePack: {error}") from error
    if not isinstance(fields, dict):
        raise ProtocolError("control", f"{name} is not a map")
    return fields


def _field(fields: Mapping[str, object], key: str, kind: type[T]) -> T:
    value = fields.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ProtocolError("control", f"{key!r} is not {kind.__name__}: {value!r:.100}")
    return value


def _unsigned(fields: Mapping[str, object], key: str, minimum: int = 0) -> int:
    value = _field(fields, key, int)
    if not minimum <= value <= U64_MAX:
        raise ProtocolError("control", f"{key!r} is out of range: {value}")
    return value


def _text(fields: Mapping[str, object], key: str, maximum: int, minimum: int = 1) -> str:
    value = _field(fields, key, str)
    if not minimum <= len(value) <= maximum:
        raise ProtocolError("control", f"{key!r} has {len(value)} characters")
    return value


def _bytes(fields: Mapping[str, object], key: str, size: int) -> bytes:
    value = _field(fields, key, bytes)
    if len(value) != size:
        raise ProtocolError("control", f"{key!r} has {len(value)} bytes")
    return value


def _key_ids(fields: Mapping[str, object]) -> tuple[bytes, ...]:
    ids = _field(fields, "keys", list)
    if not 1 <= len(ids) <= KEYS_MAX:
        raise ProtocolError("control", f"'keys' has {len(ids)} entries")
    if not all(isinstance(key_id, bytes) and len(key_id) == KEY_ID_BYTES for key_id in ids):
        raise ProtocolError("control", f"'keys' holds anything but {KEY_ID_BYTES} bytes each")
    return tuple(ids)


def _node(fields: Mapping[str, object]) -> NodeId:
    try:
        return node_id(_field(fields, "node", str))
    except ConfigError as error:
        raise ProtocolError("control", str(error)) from error


def _flag(fields: Mapping[str, object], key: str) -> bool:
    value = fields.get(key)
    if not isinstance(value, bool):
        raise ProtocolError("control", f"{key!r} is not bool: {value!r:.100}")
    return value


def _channels(fields: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Of each channel: the last sequence numbers received and consumed."""
    channels = {}
    for name, sequences in _field(fields, "channels", dict).items():
        if not isinstance(name, str) or not _are_sequences(sequences):
            raise ProtocolError("control", f"'channels' holds {name!r:.100}: {sequences!r:.100}")
        channels[name] = (sequences[0], sequences[1])
    return channels


def _are_sequences(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(value) is int and 0 <= value <= U64_MAX for value in pair)
    )
