"""What a node is, as far as another one knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from laminar.model import Incarnation, NodeId


class MemberState(Enum):
    """How a node is, in the view of another one."""

    JOINING = "joining"
    """Heard of; has not shown yet that it lives."""
    ALIVE = "alive"
    SUSPECT = "suspect"
    """Silent for too long, or out of this node's reach. It may still show itself."""
    LEFT = "left"
    """It said goodbye."""
    DEAD = "dead"
    """A suspect that did not show itself."""

    @property
    def gone(self) -> bool:
        """Whether nobody expects to hear of it again."""
        return self in (MemberState.LEFT, MemberState.DEAD)


@dataclass(frozen=True, slots=True)
class Member:
    """A node in the view of another one."""

    node: NodeId
    incarnation: Incarnation
    state: MemberState
    addr: str | None
    """Where it gossips, ``host:port``; ``None`` while that is not known."""
