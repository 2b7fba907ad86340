"""What travels between a sender and a receiver.

``Data``, ``Barrier``, ``Watermark`` and ``End`` belong to a channel and arrive in the order
they were sent; ``SchemaChanged`` comes between them. The others belong to the connection: users
meet ``Close``, which says that a peer left on purpose; the rest are the handshake.

Messages are values: nobody changes one. Those of channels are not declared frozen because
that makes each four times as expensive to construct, which small messages would feel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import pyarrow as pa

from laminar.model import CheckpointBarrier, Incarnation, NodeId, VNode

DEFAULT_CHANNEL = "default"

PROBE_INCARNATION: Final = Incarnation(0)
"""Of who only tries whether a node would be let in. Older than any life of that node, so that no
session of it is ended; and no sign that it lives."""


@dataclass(slots=True, unsafe_hash=True)
class Data:
    """A batch of rows on a channel; ``vnode`` is an optional routing tag (0 to 2**31 - 1)."""

    batch: pa.RecordBatch
    channel: str = DEFAULT_CHANNEL
    vnode: VNode | None = None


@dataclass(slots=True, unsafe_hash=True)
class Barrier:
    """A checkpoint barrier, behind everything sent before it on the channel."""

    barrier: CheckpointBarrier
    channel: str = DEFAULT_CHANNEL


@dataclass(slots=True, unsafe_hash=True)
class Watermark:
    """No row with an event time below ``timestamp`` (signed 64-bit) follows on the channel."""

    timestamp: int
    channel: str = DEFAULT_CHANNEL


@dataclass(slots=True, unsafe_hash=True)
class End:
    """Nothing follows on the channel."""

    channel: str = DEFAULT_CHANNEL


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    """The batches that follow on the channel have another schema than those before.

    Not told of a channel's first schema. Only metadata that differs counts too.
    """

    schema: pa.Schema
    channel: str = DEFAULT_CHANNEL


@dataclass(frozen=True, slots=True)
class Close:
    """The peer left on purpose."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of a connection, from the side that dials."""

    cluster: str
    node: NodeId
    incarnation: Incarnation
    round: int
    """Number of this connection within the session; a newer one supersedes an older one."""
    nonce: bytes = b""
    """Random bytes of this connection; empty without keys."""
    key_ids: tuple[bytes, ...] = ()
    """The keys that the sender has, in order of preference."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The answer to a ``Hello`` with keys: the receiver has one of them, and asks for proof."""

    node: NodeId
    nonce: bytes
    """Random bytes of this connection."""
    key_id: bytes
    """The key that both are to use."""
    proof: bytes
    """That the receiver has the key."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The answer to a ``Challenge``: the sender has the key too."""

    proof: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to ``Hello``, or to ``Proof``: the connection is open."""

    node: NodeId
    incarnation: Incarnation
    window_bytes: int
    """How much of each channel's data the receiver is willing to hold."""
    control_frames: int
    """How many control frames of each channel the receiver is willing to hold."""
    resumed: bool
    """Whether the receiver knows this session from an earlier connection."""
    channels: Mapping[str, tuple[int, int]]
    """Of every channel of this session: the last sequence numbers received and consumed."""


ChannelMessage: TypeAlias = Data | Barrier | Watermark | End
"""What a user sends."""

Message: TypeAlias = ChannelMessage | SchemaChanged | Close
"""What a user receives."""
