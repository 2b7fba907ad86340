"""What the data connections tell of the other nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from laminar.model import NodeId


class Evidence:
    """Finds out of whom there was a sign of life since the last look."""

    def __init__(self) -> None:
        self._heard_at: dict[NodeId, float] = {}

    def look(self, *heard_at: Mapping[NodeId, float]) -> list[NodeId]:
        """Whom has been heard of since the last call.

        ``heard_at`` is when something last came from each peer, as each end of the fabric
        knows it.
        """
        latest: dict[NodeId, float] = {}
        for each in heard_at:
            for peer, at in each.items():
                latest[peer] = max(at, latest.get(peer, at))
        fresh = [peer for peer, at in latest.items() if at != self._heard_at.get(peer)]
        self._heard_at = latest
        return fresh
