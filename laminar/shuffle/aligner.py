"""Barrier alignment: many inputs become one stream in which a checkpoint is one moment.

Pure: what arrives goes in, what may be processed comes out. The driver is
:class:`~laminar.shuffle.exchange.Exchange`; see ``docs/design/alignment.md``. The algorithm is
that of Carbone et al., "Lightweight Asynchronous Snapshots for Distributed Dataflows" (2015).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from laminar.config import ABORTED_CHECKPOINTS_MAX
from laminar.errors import ConfigError
from laminar.model import CheckpointId, NodeId, node_id
from laminar.shuffle.messages import (
    DEFAULT_CHANNEL,
    Barrier,
    ChannelMessage,
    Data,
    End,
    SchemaChanged,
    Watermark,
)
from laminar.shuffle.statistics import AlignmentStatistics

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Superseded:
    """``checkpoint_id`` is never aligned here: an input went on to ``by`` without it."""

    checkpoint_id: CheckpointId
    by: CheckpointId


AlignedMessage: TypeAlias = ChannelMessage | SchemaChanged | Superseded
"""What comes out."""

Aligned: TypeAlias = tuple[NodeId | None, AlignedMessage]
"""A message, and the input it is of: ``None`` when it stands for all of them."""


class _Input(Generic[Item]):
    """One life of an input, which counts as soon as it is among the live ones."""

    __slots__ = ("blocked", "delivered", "held", "held_bytes", "leaving", "peer", "watermark")

    def __init__(self, peer: NodeId) -> None:
        self.peer = peer
        self.held: deque[tuple[Item, int]] = deque()
        """What waits to be processed, each with its size."""
        self.held_bytes = 0
        self.blocked = False
        """Whether it has delivered the barrier that is being aligned."""
        self.leaving = False
        """Whether the last item of it is held already."""
        self.delivered = -1
        """The newest checkpoint it has delivered a barrier of."""
        self.watermark: int | None = None

    def hold(self, item: Item, size: int, last: bool) -> None:
        """Keep ``item`` until its turn."""
        self.held.append((item, size))
        self.held_bytes += size
        self.leaving = last


class BarrierAligner(Generic[Item]):
    """Lets the items of all inputs through, but none across a barrier.

    Items are opaque until they are processed: the driver hands each one in with :meth:`put`,
    asks with :meth:`take` which may be processed now, decodes it, and gives the message to
    :meth:`process`. What was not taken yet is not consumed, so its window bounds it.

    The items of one input are processed in order. An input that has delivered the barrier of
    the checkpoint that is being aligned is *blocked*: what comes after waits, further barriers
    included, until every live input has delivered it. Then the barrier comes out, once.

    - Inputs are one set, fixed at the start. One that ends has thereby delivered every
      barrier; one that leaves is no longer waited for. What nobody expects is refused and
      counted (``stranger``).
    - The departure of a blocked input keeps its place behind what is held of it. What an input
      sends in its next life waits, untouched, until it is *readmitted*, or refused and counted
      (``departed``) because it was *dismissed*. Of several such lives only the newest waits.
    - A readmitted input counts like the others from then on. A checkpoint that is being aligned
      comes out without it, and before anything of it.
    - Checkpoint ids grow. An input that delivers one shows that it will never deliver an
      older one, so the older one is over: if it was being aligned, :class:`Superseded` says so.
    - A barrier of a checkpoint that is over, because it was aligned, superseded or aborted, is
      dropped and counted (``duplicate`` of one that this input delivered, else ``late``). One
      of a checkpoint aborted before anybody delivered it counts as ``aborted``. No checkpoint is
      ever opened again, and to know that takes one number.
    - The watermark is the minimum over the live inputs of what was processed, and only grows.
    - Inputs that disagree on the epoch or flags of a checkpoint are not at fault here: the first
      barrier of it is the one that comes out.
    """

    def __init__(self, inputs: Iterable[str], channel: str = DEFAULT_CHANNEL) -> None:
        self.inputs = frozenset(node_id(peer) for peer in inputs)
        self._channel = channel
        self._live = {peer: _Input[Item](peer) for peer in sorted(self.inputs)}
        self._returned: dict[NodeId, _Input[Item]] = {}
        """The newest life of inputs that are gone, or about to leave."""
        self._dismissed: set[NodeId] = set()
        self._runnable: OrderedDict[NodeId, _Input[Item]] = OrderedDict()
        """Inputs that may have an item to process now."""
        self._current: Barrier | None = None
        """The barrier that is being aligned."""
        self._since = 0.0
        self._blocked = 0
        self._over = -1
        """All checkpoints up to this one are over."""
        self._aborted: set[CheckpointId] = set()
        """Aborted ones that are newer than those that are over."""
        self._watermark: int | None = None
        self._longest_wait_s = 0.0
        self._counts: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()

    @property
    def live(self) -> frozenset[NodeId]:
        """The inputs that are still waited for."""
        return frozenset(self._live)

    @property
    def done(self) -> bool:
        """Whether nothing can come any more."""
        return not self._live

    # -- what arrives --------------------------------------------------------------------

    def put(self, peer: NodeId, item: Item, size: int = 0, *, last: bool = False) -> bool:
        """Keep ``item`` of ``size`` bytes until its turn; ``False`` when it is refused.

        ``last`` says that nothing follows it in this life of the input.
        """
        source = self._live.get(peer)
        if source is None or source.leaving:
            return self._put_aside(peer, item, size, last)
        source.hold(item, size, last)
        if not source.blocked:
            self._runnable[peer] = source
        return True

    def _put_aside(self, peer: NodeId, item: Item, size: int, last: bool) -> bool:
        """Keep what comes of no live input, if its peer may become one."""
        if peer not in self.inputs or peer in self._dismissed:
            self._drops["departed" if peer in self.inputs else "stranger"] += 1
            return False
        source = self._returned.get(peer)
        if source is None or source.leaving:  # whatever waited is of a life before this one
            self._drop(source)
            source = self._returned[peer] = _Input(peer)
        source.hold(item, size, last)
        return True

    def take(self) -> tuple[NodeId, Item] | None:
        """The next item to process and its input; ``None`` when nothing may pass now.

        Inputs take turns. The caller processes the item before it asks again.
        """
        while self._runnable:
            peer, source = self._runnable.popitem(last=False)
            if source.blocked or not source.held:
                continue
            item, size = source.held.popleft()
            source.held_bytes -= size
            if source.held:
                self._runnable[peer] = source
            return peer, item
        return None

    # -- what it means -------------------------------------------------------------------

    def process(self, peer: NodeId, message: ChannelMessage, now: float) -> list[Aligned]:
        """What comes out now that ``message`` of ``peer`` was taken at ``now`` (seconds)."""
        if isinstance(message, Data):
            return [(peer, message)]
        source = self._live[peer]
        if isinstance(message, Barrier):
            return self._deliver(source, message, now)
        if isinstance(message, Watermark):
            if source.watermark is None or message.timestamp > source.watermark:
                source.watermark = message.timestamp
            return self._advance()
        return [(peer, End(self._channel)), *self.leave(peer, now)]

    def leave(self, peer: NodeId, now: float) -> list[Aligned]:
        """What comes out now that ``peer`` is gone for good, with or without its end.

        What is held of it is refused. Nothing happens when it was gone already.
        """
        source = self._live.pop(peer, None)
        if source is None:
            return []
        self._drop(source)
        self._runnable.pop(peer, None)
        self._blocked -= source.blocked
        if not self._live:
            if self._current is not None:
                self._pass(self._current.barrier.checkpoint_id)
            self._close(now)
            return []
        return self._advance() + self._complete(now)

    def _drop(self, source: _Input[Item] | None) -> None:
        if source is not None and source.held:
            self._drops["departed"] += len(source.held)

    def readmit(self, peer: NodeId) -> None:
        """Make ``peer``, an input that is gone, one again, with all that its new life sent.

        Barriers and watermarks wait for it from now on, also if it has not come yet; only the
        checkpoint that is being aligned does not. Nothing happens to one that is an input now.
        Raises :class:`~laminar.errors.ConfigError` when it never was one.
        """
        self._check_input(peer)
        if peer in self._live:
            return
        self._dismissed.discard(peer)
        source = self._live[peer] = self._returned.pop(peer, _Input(peer))
        if self._current is not None:
            source.blocked = True  # as if it had delivered it
            self._blocked += 1
        elif source.held:
            self._runnable[peer] = source

    def dismiss(self, peer: NodeId, now: float) -> tuple[list[Aligned], list[Item]]:
        """Neither wait for ``peer`` nor let anything of it through, until it is readmitted.

        What comes out now that it is gone, and the items of it that are refused.
        Raises :class:`~laminar.errors.ConfigError` when it never was an input.
        """
        self._check_input(peer)
        self._dismissed.add(peer)
        sources = [self._live.get(peer), self._returned.pop(peer, None)]
        refused = [item for source in sources if source is not None for item, _ in source.held]
        self._drop(sources[1])
        return self.leave(peer, now), refused

    def _check_input(self, peer: NodeId) -> None:
        if peer not in self.inputs:
            raise ConfigError(
                f"peer {peer} is not among the inputs of {self._channel!r}: name it in inputs "
                "when the exchange is made"
            )

    def abort(self, checkpoint_id: CheckpointId, now: float) -> list[Aligned]:
        """Never align ``checkpoint_id``, whose barriers may come before or after this.

        The inputs that it blocks go on. Nothing happens when it is over already.
        """
        if checkpoint_id <= self._over:
            return []
        self._counts["aborted"] += 1
        if self._current is not None and self._current.barrier.checkpoint_id == checkpoint_id:
            self._close(now)
            self._pass(checkpoint_id)
            return []
        self._aborted.add(checkpoint_id)
        if len(self._aborted) <= ABORTED_CHECKPOINTS_MAX:
            return []
        # What is older than so many others has no hope; one number stands for all of them.
        oldest = min(self._aborted)
        events = self._supersede(oldest, now)
        self._pass(oldest)
        return events

    def statistics(self, now: float | None = None) -> AlignmentStatistics:
        """A snapshot; with ``now`` the longest wait includes the one that still lasts."""
        longest = self._longest_wait_s
        current = self._current
        if current is not None and now is not None:
            longest = max(longest, now - self._since)
        inputs = self._live.values()
        return AlignmentStatistics(
            inputs=len(self._live),
            aligning=None if current is None else current.barrier.checkpoint_id,
            missing=frozenset(i.peer for i in inputs if current is not None and not i.blocked),
            returned=frozenset(self._returned),
            held_messages=sum(len(source.held) for source in inputs),
            held_bytes=sum(source.held_bytes for source in inputs),
            aligned=self._counts["aligned"],
            superseded=self._counts["superseded"],
            aborted=self._counts["aborted"],
            longest_wait_s=longest,
            drops=dict(self._drops),
        )

    # -- checkpoints ---------------------------------------------------------------------

    def _deliver(self, source: _Input[Item], message: Barrier, now: float) -> list[Aligned]:
        number = message.barrier.checkpoint_id
        if number <= self._over:
            self._drops["duplicate" if number == source.delivered else "late"] += 1
            return []
        source.delivered = number
        events = self._supersede(number, now)
        if number in self._aborted:
            self._drops["aborted"] += 1
            self._pass(number)
            return events
        if self._current is None:
            self._current, self._since = message, now
        source.blocked = True
        self._blocked += 1
        return events + self._complete(now)

    def _supersede(self, by: CheckpointId, now: float) -> list[Aligned]:
        """No checkpoint before ``by`` can be aligned any more."""
        current = self._current
        events: list[Aligned] = []
        if current is not None and current.barrier.checkpoint_id < by:
            self._counts["superseded"] += 1
            self._close(now)
            events.append((None, Superseded(current.barrier.checkpoint_id, by)))
        self._pass(CheckpointId(by - 1))
        return events

    def _complete(self, now: float) -> list[Aligned]:
        """The barrier, if every live input has delivered it."""
        barrier = self._current
        if barrier is None or self._blocked < len(self._live):
            return []
        self._counts["aligned"] += 1
        self._close(now)
        self._pass(barrier.barrier.checkpoint_id)
        return [(None, barrier)]

    def _close(self, now: float) -> None:
        """Whatever became of the current checkpoint, nobody waits for it any more."""
        if self._current is None:
            return
        self._current = None
        self._longest_wait_s = max(self._longest_wait_s, now - self._since)
        self._blocked = 0
        for source in self._live.values():
            source.blocked = False
            if source.held:
                self._runnable[source.peer] = source

    def _pass(self, number: CheckpointId) -> None:
        """All checkpoints up to ``number`` are over."""
        self._over = max(self._over, number)
        if self._aborted:
            self._aborted = {aborted for aborted in self._aborted if aborted > self._over}

    # -- watermarks ----------------------------------------------------------------------

    def _advance(self) -> list[Aligned]:
        """The watermark, if it has grown."""
        lowest: int | None = None
        for source in self._live.values():
            mark = source.watermark
            if mark is None or (self._watermark is not None and mark <= self._watermark):
                return []
            lowest = mark if lowest is None else min(lowest, mark)
        if lowest is None:
            return []
        self._watermark = lowest
        return [(None, Watermark(lowest, self._channel))]
