"""The rules by which a running cluster replaces a key; see ``docs/design/key-rotation.md``.

The invariant: whatever key a node seals with, every member that it knows has; so no datagram
between members is lost for its key, and any two of them have a key in common.

A node *coordinates* a change by an order in its slot. The order has stages, and the coordinator
goes on to the next one when every member has reported the last. A member takes a stage only
when everybody that it knows itself has reported the one before. Of several orders the highest
claim counts, so an older one cannot undo what a newer one did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Final

from laminar.cluster.gossip.core import GossipCore
from laminar.cluster.gossip.key_messages import (
    NO_CLAIM,
    NUMBER_MAX,
    Claim,
    KeyOrder,
    KeyReport,
    Stage,
    decode_order,
    decode_report,
)
from laminar.cluster.gossip.member import Member, MemberState
from laminar.cluster.gossip.slot import KEY_ORDER_KEY, KEY_REPORT_KEY
from laminar.cluster.gossip.view import Event
from laminar.cluster.keyring import Keyring
from laminar.cluster.kv import KvEvent
from laminar.errors import ConfigError, ProtocolError
from laminar.model import NodeId

SETTLE_INTERVALS: Final = 20
"""How many intervals after it has joined a node has heard of all others."""

GRACE_INTERVALS: Final = 4
"""How many intervals a datagram may be on its way, and all that answer it."""


class KeyRotation:
    """One node's part in the changes of keys. Tell it all events of the gossip.

    The driver calls :meth:`advance` whenever something has changed, saves the ring if
    :attr:`unsaved`, says so, and calls :meth:`publish` after that.
    """

    def __init__(self, node: NodeId, keyring: Keyring, *, settle_s: float, grace_s: float) -> None:
        """``settle_s`` is how long it takes to hear of all members, ``grace_s`` to hear of one.

        A node that has joined for less than the first uses and removes no key by order. The
        second is for how long a datagram may be on its way: old keys are removed that long
        after all use the new one.
        """
        self.order: KeyOrder | None = None
        """What this node asks of all."""
        self.drops = 0
        """Orders and reports of others that could not be read."""
        self._node = node
        self._keyring = keyring
        self._orders: dict[NodeId, KeyOrder] = {}
        self._reports: dict[NodeId, KeyReport] = {}
        self._claim = NO_CLAIM
        self._stage = self._saved = Stage.NONE
        self._trouble = ""
        self._last = Stage.NONE
        """Where the own order ends."""
        self._settle_s = settle_s
        self._settled = inf
        """From when on this node knows whom it has to wait for."""
        self._grace_s = grace_s
        self._taken: float | None = None
        """Since when all have taken the stage of the own order."""

    @property
    def report(self) -> KeyReport:
        """What this node says of itself."""
        ring = self._keyring
        return KeyReport(self._claim, self._saved, ring.primary, ring.ids, self._trouble)

    @property
    def reports(self) -> dict[NodeId, KeyReport]:
        """What all nodes say, this one included."""
        return {self._node: self.report, **self._reports}

    @property
    def idle(self) -> bool:
        """Whether no order is known."""
        return self.order is None and not self._orders

    @property
    def unsaved(self) -> bool:
        """Whether the ring has changed since :meth:`saved`."""
        return self._saved < self._stage

    # -- what others say ------------------------------------------------------------------------

    def on_event(self, event: Event, now: float) -> None:
        """Take notice of an order or report, and of having joined the others."""
        if isinstance(event, KvEvent):
            if event.node != self._node:
                self._hear(event)
        elif (event.node, event.state) == (self._node, MemberState.ALIVE):
            self._settled = min(self._settled, now + self._settle_s)

    def _hear(self, event: KvEvent) -> None:
        """What cannot be read counts as not there."""
        if event.key == KEY_ORDER_KEY:
            self._orders.pop(event.node, None)
        elif event.key == KEY_REPORT_KEY:
            self._reports.pop(event.node, None)
        if event.value is None:
            return
        try:
            if event.key == KEY_ORDER_KEY:
                self._orders[event.node] = decode_order(event.value)
            elif event.key == KEY_REPORT_KEY:
                self._reports[event.node] = decode_report(event.value)
        except ProtocolError:
            self.drops += 1

    # -- what this node does --------------------------------------------------------------------

    def advance(self, members: Mapping[NodeId, Member], now: float) -> None:
        """Take the stages that are due, given all nodes that are known.

        Call it when something has changed, and now and then.
        """
        order = self._due()
        if order is None:
            return
        if order.claim != self._claim:
            self._claim = order.claim
            self._stage = self._saved = Stage.NONE
        self._trouble = ""
        while self._stage < order.stage:
            following = Stage(self._stage + 1)
            if following > Stage.INSTALL and (
                now < self._settled or self._lacking(order, self._stage, members)
            ):
                return
            try:
                self._take(order, following)
            except ConfigError as error:
                self._trouble = str(error)
                return
            self._stage = following

    def saved(self) -> None:
        """The ring is kept as it is now."""
        self._saved = self._stage

    def publish(self, core: GossipCore, now: float) -> None:
        """Put in the own slot what others should know."""
        order = None if self.order is None else self.order.encode()
        # An order that is over is gone before anybody hears that this node has gone on.
        core.announce(KEY_ORDER_KEY, order, now)
        core.announce(KEY_REPORT_KEY, self.report.encode(), now)

    def not_saved(self, why: str) -> None:
        """The ring could not be kept; :attr:`unsaved` stays."""
        self._trouble = why

    def _due(self) -> KeyOrder | None:
        """The order that counts, even if its coordinator is dead: others may follow it already."""
        orders = [*self._orders.values(), *([self.order] if self.order is not None else [])]
        order = max(orders, key=lambda order: order.claim, default=None)
        return None if order is None or order.claim < self._highest() else order

    def _highest(self) -> Claim:
        """The newest change that is known of."""
        return max([self._claim, *(report.claim for report in self._reports.values())])

    def _take(self, order: KeyOrder, stage: Stage) -> None:
        ring, identity = self._keyring, order.identity
        if stage is Stage.INSTALL:
            if order.key is not None:
                ring.install(order.key)
            elif ring.key(identity) is None:
                raise ConfigError(f"it does not have the key {identity.hex()}")
        elif stage is Stage.USE:
            ring.use(identity)
        else:
            for other in ring.ids:
                if other != identity and order.retired in (None, other):
                    ring.remove(other)

    def _lacking(
        self, order: KeyOrder, stage: Stage, members: Mapping[NodeId, Member]
    ) -> dict[NodeId, str]:
        """The other nodes that have not reported ``stage``, and what is known of the reason."""
        lacking: dict[NodeId, str] = {}
        for node, member in members.items():
            if node == self._node or member.state is MemberState.LEFT:
                continue
            if member.state is MemberState.DEAD and order.skip_dead:
                continue
            why = _why_lacking(self._reports.get(node), order, stage)
            if why:
                lacking[node] = f"{why} ({member.state.value})"
        return lacking

    # -- coordinating ---------------------------------------------------------------------------

    def begin(
        self,
        identity: bytes,
        key: bytes | None,
        last: Stage,
        *,
        retired: bytes | None,
        skip_dead: bool,
        tag: int,
    ) -> None:
        """Order everybody to have, then use the key ``identity``, then to remove others.

        ``last`` is where that ends; see :class:`KeyOrder`; ``tag`` is random. Raises
        :class:`~laminar.errors.ConfigError` when this node coordinates a change already.
        """
        if self.order is not None:
            raise ConfigError("this node is changing the keys already; wait until that is done")
        known = [order.claim for order in self._orders.values()]
        number = max([self._highest(), *known]).number + 1
        if number > NUMBER_MAX:
            raise ConfigError(
                "somebody has used up the numbers of changes; replace the keyring files, and "
                "restart the nodes"
            )
        claim = Claim(number, tag)
        self.order = KeyOrder(claim, Stage.INSTALL, identity, key, retired, skip_dead)
        self._last = last

    def lacking(self, members: Mapping[NodeId, Member]) -> dict[NodeId, str]:
        """Those who have not taken the stage of the own order, and what is known of why."""
        order = self.order
        if order is None:
            return {}
        lacking = self._lacking(order, order.stage, members)
        own = _why_lacking(self.report, order, order.stage)
        if own:
            lacking[self._node] = own if self._claim == order.claim else "it is on the way"
        return lacking

    def waits_for(self, members: Mapping[NodeId, Member], now: float) -> dict[NodeId, str]:
        """Whom the own order waits for, and why: those who lack it, or else this node itself."""
        lacking = self.lacking(members)
        if not lacking and self.order is not None and now < self._settled:
            lacking[self._node] = "it has just joined and may not know all members yet"
        return lacking

    def proceed(self, members: Mapping[NodeId, Member], now: float) -> bool:
        """Go on to the next stage of the own order, or end it, if all have taken this one.

        Returns whether that was so. Call it when something has changed, and now and then.
        """
        order = self.order
        if order is None or now < self._settled or self.lacking(members):
            self._taken = None
            return False
        if order.stage is Stage.USE and self._last is Stage.REMOVE:
            self._taken = now if self._taken is None else self._taken
            if now < self._taken + self._grace_s:
                return False
        done = order.stage is self._last
        self.order = None if done else replace(order, stage=Stage(order.stage + 1))
        return True

    @property
    def superseded(self) -> bool:
        """Whether another node has begun a change after the own one."""
        if self.order is None:
            return False
        newest = max((order.claim for order in self._orders.values()), default=NO_CLAIM)
        return max(newest, self._highest()) > self.order.claim

    def withdraw(self) -> None:
        """Ask nobody for anything any more."""
        self.order = None


def _why_lacking(report: KeyReport | None, order: KeyOrder, stage: Stage) -> str:
    if report is None:
        return "it has not told which keys it has"
    if report.claim != order.claim:
        return "it has not heard of the change"
    if report.stage < stage:
        return report.trouble or ("it waits for others" if report.stage else "it is on the way")
    return ""
