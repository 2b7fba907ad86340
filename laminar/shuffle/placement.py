"""Decides which node owns which vnode, the same on every machine.

Rendezvous hashing (Thaler, Ravishankar 1998): every node scores every vnode, the highest
score owns it. Hence the invariant: **a vnode moves only from a node that left or to a node
that came**, and the order in which nodes are listed never matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from laminar.errors import ConfigError
from laminar.model import NodeId
from laminar.shuffle.hashing import VNODES_MAX, mix64

PLACEMENT_VERSION: Final = 1
"""Version of the rule. Nodes with different versions must not share an exchange."""

NODES_MAX: Final = VNODES_MAX

Placement: TypeAlias = npt.NDArray[np.intp]
"""``placement[vnode]`` is the index of the node that owns it."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def place(vnodes: int, nodes: Sequence[NodeId]) -> Placement:
    """Give each vnode a node by rendezvous hashing: ``intp[vnodes]`` of indices in ``nodes``.

    With ``n`` nodes each owns ``vnodes / n``, give or take the square root of that. Equal
    scores go to the smaller id. Raises :class:`ConfigError` for no nodes, a node listed
    twice, or numbers out of range.
    """
    check_counts(vnodes, nodes)
    placement = np.zeros(vnodes, np.intp)
    best = np.zeros(vnodes, np.uint64)
    spread = mix64(np.arange(1, vnodes + 1, dtype=np.uint64) * _GOLDEN)
    # From the smallest id on, so that it keeps a vnode when scores are equal.
    for index in sorted(range(len(nodes)), key=nodes.__getitem__):
        scores = mix64(spread ^ _seed(nodes[index]))
        wins = scores > best
        placement[wins] = index
        np.copyto(best, scores, where=wins)
    return placement


def check_counts(vnodes: int, nodes: Sequence[NodeId]) -> None:
    """Raise :class:`ConfigError` unless ``vnodes`` can be placed on ``nodes``."""
    _check_range("vnodes", vnodes, VNODES_MAX)
    _check_range("the number of nodes", len(nodes), NODES_MAX)
    if len(set(nodes)) != len(nodes):
        twice = sorted({node for node in nodes if list(nodes).count(node) > 1})
        raise ConfigError(f"each node is listed once, but twice or more: {', '.join(twice)}")


def _check_range(what: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ConfigError(f"{what} must be 1 to {most}, got {value}")


def _seed(node: NodeId) -> np.uint64:
    digest = blake2b(node.encode(), digest_size=8, person=b"laminar-place-1").digest()
    return np.uint64(int.from_bytes(digest, "little"))
