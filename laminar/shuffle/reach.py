"""How far an attempt to reach a receiver came."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from laminar.model import NodeId


class Reach(Enum):
    """How far a probe came."""

    NOWHERE = "nowhere"
    CONNECTED = "connected"
    """Somebody accepts connections, but the handshake failed."""
    GREETED = "greeted"
    """The receiver let this side in."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one attempt."""

    reach: Reach
    reason: str = ""
    """Why no further, as a short stable word: ``timeout``, ``network``, or that of a
    :class:`~laminar.errors.ProtocolError` on either side."""
    detail: str = ""
    """The same in words."""
    node: NodeId | None = None
    """Who answered, if that was said."""
    told: bool = False
    """Whether the other side gave the reason."""
