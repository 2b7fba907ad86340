"""The driver of the changes of keys: a file, a clock and chance for a :class:`KeyRotation`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from laminar.cluster import keyring_file
from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.key_messages import TAG_BITS, KeyOrder, KeyReport, Stage
from laminar.cluster.gossip.key_rotation import GRACE_INTERVALS, SETTLE_INTERVALS, KeyRotation
from laminar.cluster.gossip.member import MemberState
from laminar.cluster.gossip.view import Event
from laminar.cluster.keyring import Keyring, key_id
from laminar.config import KEY_BYTES_TYPICAL
from laminar.errors import ClosedError, ConfigError, KeyRotationError
from laminar.model import NodeId

LOOKS_PER_INTERVAL: Final = 10
"""How often, at most, a change looks at all members."""

_WHAT_REMAINS: Final[Mapping[Stage, str]] = {
    Stage.INSTALL: "not all members have the key {}, so nobody uses it, and no other was removed",
    Stage.USE: "not all members use the key {}, so no other was removed",
    Stage.REMOVE: "all members use the key {}, but not all have removed the other",
}


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A change of keys that all members have taken."""

    identity: bytes
    """The id of the key that is used, or was installed."""
    members: tuple[NodeId, ...]
    """Those who have taken it, this node included."""
    skipped: tuple[NodeId, ...]
    """Those who are dead and were not waited for: give them the key before they start again."""


class KeyDriver:
    """Follows the orders of others, and gives some, for one running core.

    ``file`` is where the ring is kept; ``tell`` is called when the own slot has changed.
    """

    def __init__(
        self,
        core: GossipCore,
        keyring: Keyring,
        file: Path | None,
        interval_s: float,
        tell: Callable[[], None],
    ) -> None:
        self._core = core
        self._keyring = keyring
        self._file = file
        self._interval_s = interval_s
        self._tell = tell
        self._rotation = KeyRotation(
            core.node,
            keyring,
            settle_s=SETTLE_INTERVALS * interval_s,
            grace_s=GRACE_INTERVALS * interval_s,
        )
        self._closed = False
        self._wake = anyio.Event()
        self._stepped = anyio.Event()
        self._rotation.publish(core, anyio.current_time())

    @property
    def reports(self) -> dict[NodeId, KeyReport]:
        """What all nodes say of their keys."""
        return self._rotation.reports

    @property
    def waits_for(self) -> dict[NodeId, str]:
        """Whom the change that this node coordinates waits for, and why."""
        return self._rotation.waits_for(self._core.members(), anyio.current_time())

    @property
    def drops(self) -> int:
        """Orders and reports of others that could not be read."""
        return self._rotation.drops

    def on_event(self, event: Event) -> None:
        """Take notice of what has changed."""
        self._rotation.on_event(event, anyio.current_time())
        if not self._rotation.idle:
            self._wake.set()

    async def run(self) -> None:
        """Follow orders."""
        while True:
            self._wake = anyio.Event()
            await self._step()
            self._stepped.set()
            self._stepped = anyio.Event()
            with anyio.move_on_after(inf if self._rotation.idle else self._interval_s):
                await self._wake.wait()
                # Of many reports that come at once all are looked at together.
                await anyio.sleep(self._interval_s / LOOKS_PER_INTERVAL)

    def close(self) -> None:
        """End what waits for others."""
        self._closed = True
        self._stepped.set()

    # -- changes --------------------------------------------------------------------------------

    async def rotate(self, key: bytes | None, timeout_s: float, skip_dead: bool) -> KeyChange:
        """Have everybody use ``key``, or a new one, and remove all others."""
        key = secrets.token_bytes(KEY_BYTES_TYPICAL) if key is None else key
        return await self._bring(key, Stage.REMOVE, timeout_s, skip_dead)

    async def install(self, key: bytes, timeout_s: float, skip_dead: bool) -> KeyChange:
        """Have everybody open with ``key``."""
        return await self._bring(key, Stage.INSTALL, timeout_s, skip_dead)

    async def use(self, identity: bytes, timeout_s: float, skip_dead: bool) -> KeyChange:
        """Have everybody seal with a key that all have."""
        if self._keyring.key(identity) is None:
            raise ConfigError(f"no key {identity.hex()} in the keyring; install it first")
        begin = partial(self._rotation.begin, identity, None, Stage.USE, retired=None)
        return await self._change(begin, timeout_s, skip_dead)

    async def remove(self, identity: bytes, timeout_s: float, skip_dead: bool) -> KeyChange:
        """Have everybody use this node's primary, and open with ``identity`` no more."""
        primary = self._keyring.primary
        if identity == primary:
            raise ConfigError(f"key {identity.hex()} is in use; use another one before removing it")
        begin = partial(self._rotation.begin, primary, None, Stage.REMOVE, retired=identity)
        return await self._change(begin, timeout_s, skip_dead)

    async def _bring(self, key: bytes, last: Stage, timeout_s: float, skip_dead: bool) -> KeyChange:
        Keyring([*self._keyring.keys, key])  # raises what is wrong with it
        begin = partial(self._rotation.begin, key_id(key), key, last, retired=None)
        return await self._change(begin, timeout_s, skip_dead)

    async def _change(
        self, begin: Callable[..., None], timeout_s: float, skip_dead: bool
    ) -> KeyChange:
        self._check_running()
        self._check_all_there(skip_dead)
        begin(skip_dead=skip_dead, tag=secrets.randbits(TAG_BITS))
        try:
            return await self._see_through(timeout_s)
        finally:
            self._rotation.withdraw()
            self._publish()

    async def _see_through(self, timeout_s: float) -> KeyChange:
        """Have all members take all stages, each within ``timeout_s``."""
        rotation = self._rotation
        identity = b""
        while (order := rotation.order) is not None:
            identity = order.identity
            self._publish()
            self._wake.set()
            with anyio.move_on_after(timeout_s) as scope:
                await self._wait_taken(order)
            if scope.cancelled_caught:
                what = _WHAT_REMAINS[order.stage].format(identity.hex())
                raise KeyRotationError(what, self.waits_for)
        members = self._core.members()
        return KeyChange(
            identity,
            tuple(node for node, member in members.items() if not member.state.gone),
            tuple(node for node, member in members.items() if member.state is MemberState.DEAD),
        )

    async def _wait_taken(self, order: KeyOrder) -> None:
        """Wait until all members have taken this stage of the order."""
        while True:
            self._check_running()
            if self._rotation.superseded:
                raise KeyRotationError("another node has begun a later change of keys", {})
            stepped = self._stepped
            if self._rotation.proceed(self._core.members(), anyio.current_time()):
                return
            await stepped.wait()

    def _check_running(self) -> None:
        if self._core.error is not None:
            raise self._core.error
        if self._closed:
            raise ClosedError("this GossipAgent was closed while it changed keys")

    def _check_all_there(self, skip_dead: bool) -> None:
        members = self._core.members()
        if members[self._core.node].state is MemberState.JOINING:
            raise ConfigError(
                "this node has not found any other yet: a key that it changes alone keeps it out"
            )
        dead = {
            node: "it is dead"
            for node, member in members.items()
            if member.state is MemberState.DEAD and not skip_dead
        }
        if dead:
            raise KeyRotationError(
                "nothing was changed: start those who are dead, or skip them and give them the "
                "key before they start again",
                dead,
            )

    # -- steps ----------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Take what stages are due; say so once the ring is kept."""
        rotation = self._rotation
        if not rotation.idle:
            rotation.advance(self._core.members(), anyio.current_time())
        if rotation.unsaved:
            await self._save()
        self._publish()

    async def _save(self) -> None:
        if self._file is not None:
            ring = Keyring(self._keyring.keys)
            try:
                await anyio.to_thread.run_sync(keyring_file.save, self._file, ring)
            except ConfigError as error:
                self._rotation.not_saved(str(error))
                return
        self._rotation.saved()

    def _publish(self) -> None:
        self._rotation.publish(self._core, anyio.current_time())
        self._tell()
