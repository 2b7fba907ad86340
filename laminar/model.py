"""The vocabulary: plain values that every layer shares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import NewType
from urllib.parse import quote

from laminar.errors import ConfigError

NodeId = NewType("NodeId", str)
"""Name of a node, unique in its cluster: 1 to 128 printable ASCII characters, no spaces."""

VNode = NewType("VNode", int)
"""A virtual node: the unit that keys hash to and that is placed on partitions or nodes."""

Epoch = NewType("Epoch", int)
"""Generation of a job's assignment; grows when the set of nodes changes."""

CheckpointId = NewType("CheckpointId", int)
"""Identifies one checkpoint attempt; allocated once, never reused for a retry."""

Incarnation = NewType("Incarnation", int)
"""One life of a node. A newer life has a larger number, also when the clock went back."""

NODE_ID_LENGTH_MAX = 128


def node_id(text: str) -> NodeId:
    """Check ``text`` and return it as a :data:`NodeId`.

    Raises :class:`~laminar.errors.ConfigError` when it is empty, too long, or holds
    anything but printable ASCII without spaces.
    """
    if not isinstance(text, str):
        raise ConfigError(f"a node id is a string, not {type(text).__name__}: {text!r}")
    if not 1 <= len(text) <= NODE_ID_LENGTH_MAX:
        raise ConfigError(f"a node id has 1 to {NODE_ID_LENGTH_MAX} characters, got {len(text)}")
    if not all("!" <= character <= "~" for character in text):
        raise ConfigError(f"a node id is printable ASCII without spaces, got {text!r}")
    return NodeId(text)


def node_uri(cluster: str, node: str) -> str:
    """How a certificate names a node: ``laminar://<cluster>/<node>``, percent-encoded.

    Both parts are encoded but for letters, digits, and ``-._~``, so that every name has one URI.
    """
    return f"laminar://{quote(cluster, safe='')}/{quote(node, safe='')}"


class BarrierFlags(IntFlag):
    """What a checkpoint barrier asks for beyond a snapshot."""

    NONE = 0
    SAVEPOINT = 1
    STOP = 2


@dataclass(frozen=True, slots=True)
class CheckpointBarrier:
    """Marks the boundary of a checkpoint in the data.

    ``checkpoint_id`` and ``epoch`` are unsigned 64-bit.
    """

    checkpoint_id: CheckpointId
    epoch: Epoch = Epoch(0)
    flags: BarrierFlags = BarrierFlags.NONE
