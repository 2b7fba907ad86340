"""Replacing the key of a running cluster over HTTP, told step by step."""

from __future__ import annotations

import secrets
from typing import Any, Final, Self

import anyio
from anyio.lowlevel import checkpoint

from laminar.cluster.gossip.agent import GossipAgent
from laminar.cluster.keyring import key_id
from laminar.config import KEY_BYTES_TYPICAL
from laminar.errors import KeyRotationError, LaminarError

LOOK_INTERVAL_S: Final = 0.1

LACKING_MAX: Final = 100
"""Most members whom a line of progress names."""


class Rotation:
    """One replacement of the key by a new one, asked of one node."""

    def __init__(self, agent: GossipAgent, *, skip_dead: bool) -> None:
        self._agent = agent
        self._skip_dead = skip_dead
        self._key = secrets.token_bytes(KEY_BYTES_TYPICAL)
        self._identity = key_id(self._key)
        self._outcome: dict[str, Any] | None = None
        self._told: dict[str, Any] = {}
        self._over = False

    async def run(self) -> None:
        """Replace the key. What comes of it is told by iterating."""
        try:
            change = await self._agent.rotate_key(self._key, skip_dead=self._skip_dead)
        except KeyRotationError as error:
            self._outcome = {"failed": error.what, "lacking": error.lacking}
        except LaminarError as error:
            self._outcome = {"failed": str(error), "lacking": {}}
        else:
            self._outcome = {
                "key": change.identity.hex(),
                "members": sorted(change.members),
                "skipped": sorted(change.skipped),
            }

    def __aiter__(self) -> Self:
        """An iterator is its own."""
        return self

    async def __anext__(self) -> dict[str, Any]:
        """How far the members are, on change; in the end ``key`` and who has it, or ``failed``."""
        await checkpoint()  # a change that is refused at once makes no progress to be told
        while self._outcome is None:
            progress = self._progress()
            if progress != self._told:
                self._told = progress
                return progress
            await anyio.sleep(LOOK_INTERVAL_S)
        if self._over:
            raise StopAsyncIteration
        self._over = True
        return self._outcome

    def _progress(self) -> dict[str, Any]:
        """How many members there are, have the new key, use it, and have no other.

        And who of them is waited for, and why.
        """
        there = [node for node, member in self._agent.members().items() if not member.state.gone]
        known = self._agent.key_reports()
        reports = [known[node] for node in there if node in known]
        new = self._identity
        return {
            "members": len(there),
            "installed": sum(new in report.ids for report in reports),
            "using": sum(report.primary == new for report in reports),
            "removed": sum(report.ids == (new,) for report in reports),
            "lacking": dict(sorted(self._agent.key_change_waits_for().items())[:LACKING_MAX]),
        }
