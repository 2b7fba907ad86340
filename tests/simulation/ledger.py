"""What was sent and what arrived, and what of it may never be.

Every row says who sent it, on which channel, its running number there, the checkpoint interval
it belongs to, and the generation: how often its sender has been told of a loss before.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from laminar.model import BarrierFlags, CheckpointBarrier, CheckpointId, Epoch
from laminar.shuffle.messages import Barrier, ChannelMessage, Data, Watermark

SCHEMA = pa.schema(
    [
        ("sender", pa.string()),
        ("channel", pa.string()),
        ("generation", pa.int32()),
        ("interval", pa.int32()),
        ("number", pa.int32()),
        ("pad", pa.string()),
    ]
)
WITH_DICTIONARY = SCHEMA.set(5, pa.field("pad", pa.dictionary(pa.int8(), pa.string())))
NUMBERS_MAX = 1 << 24
INTERVALS_MAX = 1 << 16


class Violation(AssertionError):
    """The fabric broke a promise."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


def pad_of(number: int, pad_bytes: int) -> str:
    return f"{number % 7}" + "." * pad_bytes


@dataclass
class Lane:
    """What one node sends to another on one channel, as both ends see it."""

    sender: str
    receiver: str
    channel: str
    # the sender's side
    next_number: int = 0
    interval: int = 0
    optional: set[int] = field(default_factory=set)
    """Numbers of rows whose send was cancelled or failed: they may have arrived, or not."""
    doubtful_intervals: set[int] = field(default_factory=set)
    """Those whose barrier was in a send that was cancelled or failed."""
    firm: dict[int, set[int]] = field(default_factory=dict)
    """By generation: numbers of rows sent for certain."""
    firm_controls: Counter[int] = field(default_factory=Counter)
    """By generation: barriers, watermarks and ends sent for certain."""
    # the receiver's side
    generation: int = -1
    last_number: int = -1
    seen_interval: int = 0
    seen: set[int] = field(default_factory=set)
    """Numbers of the rows that came."""
    seen_controls: Counter[int] = field(default_factory=Counter)
    ended: bool = False
    forgiven: int = -1
    """The newest generation that may be incomplete at the end."""
    told: bool = False
    """Whether a loss was told since the last message."""
    gap: bool = False
    """Whether the next message may skip what a loss swallowed."""

    @property
    def name(self) -> str:
        return f"{self.sender}->{self.receiver}/{self.channel}"

    def missing(self, generation: int) -> str:
        """What of ``generation`` was sent for certain and did not come; empty when nothing."""
        rows = len(self.firm.get(generation, set()) - self.seen)
        controls = self.firm_controls[generation] - self.seen_controls[generation]
        return f"{self.name} lacks {rows} rows, {controls} controls" if rows or controls else ""


class Ledger:
    """All lanes. ``fail`` is told of each broken promise."""

    def __init__(self, fail: Callable[[str, str], None]) -> None:
        self.lanes: dict[tuple[str, str, str], Lane] = {}
        self.generations: dict[tuple[str, str], int] = {}
        """By sender and receiver: how often the sender was told of a loss."""
        self.alignments: dict[str, int] = {}
        """By receiver: the newest checkpoint for which a barrier of all inputs came out."""
        self.marks: dict[str, int] = {}
        """By receiver: the newest watermark of all inputs."""
        self._fail = fail

    def lane(self, sender: str, receiver: str, channel: str) -> Lane:
        key = (sender, receiver, channel)
        if key not in self.lanes:
            self.lanes[key] = Lane(*key)
        return self.lanes[key]

    def generation(self, lane: Lane) -> int:
        return self.generations.setdefault((lane.sender, lane.receiver), 0)

    # -- the sender's side ---------------------------------------------------------------

    def batch(self, lane: Lane, rows: int, pad_bytes: int, dictionary: bool) -> pa.RecordBatch:
        """The next rows of ``lane``."""
        numbers = range(lane.next_number, lane.next_number + rows)
        lane.next_number += rows
        pads = pa.array([pad_of(number, pad_bytes) for number in numbers], pa.string())
        columns = [
            pa.array([lane.sender] * rows),
            pa.array([lane.channel] * rows),
            pa.array([self.generation(lane)] * rows, pa.int32()),
            pa.array([lane.interval] * rows, pa.int32()),
            pa.array(numbers, pa.int32()),
            pads.dictionary_encode().cast(WITH_DICTIONARY.field(5).type) if dictionary else pads,
        ]
        schema = WITH_DICTIONARY if dictionary else SCHEMA
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def barrier(self, lane: Lane) -> CheckpointBarrier:
        """The next barrier of ``lane``; rows from now on belong to the next interval."""
        lane.interval += 1
        return self.barrier_of(lane)

    def barrier_of(self, lane: Lane) -> CheckpointBarrier:
        return CheckpointBarrier(
            CheckpointId(lane.interval), Epoch(self.generation(lane)), BarrierFlags.NONE
        )

    def watermark(self, lane: Lane) -> int:
        """A timestamp that says where in the lane it was sent."""
        past = self.generation(lane) * INTERVALS_MAX + lane.interval
        return past * NUMBERS_MAX + lane.next_number

    def sent(self, lane: Lane, generation: int, first: int) -> None:
        """The rows of ``lane`` from number ``first`` on are on their way for certain."""
        lane.firm.setdefault(generation, set()).update(range(first, lane.next_number))

    def doubtful(self, lane: Lane, first: int, interval: int) -> None:
        """What was made for ``lane`` since ``first`` and ``interval`` may arrive, in part."""
        lane.optional.update(range(first, lane.next_number))
        lane.doubtful_intervals.update(range(interval + 1, lane.interval + 1))

    # -- the receiver's side -------------------------------------------------------------

    def received(self, sender: str, receiver: str, message: ChannelMessage) -> None:
        lane = self.lane(sender, receiver, message.channel)
        if lane.ended:
            self._fail("order", f"{lane.name}: {type(message).__name__} after the end")
        if isinstance(message, Data):
            self._rows(lane, message.batch)
        elif isinstance(message, Barrier):
            self._barrier(lane, message.barrier)
        elif isinstance(message, Watermark):
            past, number = divmod(message.timestamp, NUMBERS_MAX)
            generation, interval = divmod(past, INTERVALS_MAX)
            self._enter(lane, generation)
            self._cross(lane, interval, "watermark")
            if lane.last_number >= number:
                self._fail("order", f"{lane.name}: row {lane.last_number} before {number}'s mark")
            self._skip_to(lane, number)
            lane.seen_controls[generation] += 1
        else:
            lane.ended = True
            generation = max(lane.generation, self.generation(lane))
            self._enter(lane, generation)
            lane.seen_controls[generation] += 1

    def aligned(self, receiver: str, barrier: CheckpointBarrier) -> None:
        """A barrier of all inputs came out at ``receiver``."""
        for lane in self.lanes.values():
            if lane.receiver == receiver and not lane.ended:
                self._cross(lane, barrier.checkpoint_id - 1, f"barrier {barrier.checkpoint_id}")
                lane.seen_interval = barrier.checkpoint_id
        if barrier.checkpoint_id != self.alignments.get(receiver, 0) + 1:
            self._fail("barrier", f"{receiver}: {barrier.checkpoint_id} came out of turn")
        self.alignments[receiver] = barrier.checkpoint_id

    def passed(self, receiver: str, timestamp: int) -> None:
        """A watermark of all inputs came out at ``receiver``: rows are numbered from it on."""
        if timestamp <= self.marks.get(receiver, -1):
            self._fail("watermark", f"{receiver}: {timestamp} after {self.marks[receiver]}")
        self.marks[receiver] = timestamp

    def _rows(self, lane: Lane, batch: pa.RecordBatch) -> None:
        columns = [column.to_pylist() for column in batch.columns]
        for sender, channel, generation, interval, number, pad in zip(*columns, strict=True):
            if (sender, channel) != (lane.sender, lane.channel):
                self._fail("identity", f"{lane.name}: a row of {sender}/{channel}")
            self._enter(lane, generation)
            if number <= lane.last_number:
                self._fail("once", f"{lane.name}: row {number} after row {lane.last_number}")
            if interval != lane.seen_interval:
                self._cross(lane, interval, f"row {number}")
            self._skip_to(lane, number)
            if number < self.marks.get(lane.receiver, 0):
                self._fail("watermark", f"{lane.name}: row {number} after the mark of all inputs")
            if pad[0] != str(number % 7):
                self._fail("values", f"{lane.name}: row {number} has {pad!r}")
            lane.last_number = number
            lane.seen.add(number)

    def _barrier(self, lane: Lane, barrier: CheckpointBarrier) -> None:
        self._enter(lane, barrier.epoch)
        self._cross(lane, barrier.checkpoint_id - 1, f"barrier {barrier.checkpoint_id}")
        lane.seen_interval = barrier.checkpoint_id
        lane.seen_controls[barrier.epoch] += 1

    def _cross(self, lane: Lane, interval: int, what: str) -> None:
        """Go on in ``interval`` without its barrier: it must not have had to come."""
        passed = set(range(lane.seen_interval + 1, interval + 1))
        excused = lane.gap or passed <= lane.doubtful_intervals
        if interval < lane.seen_interval or not excused:
            self._fail(
                "barrier", f"{lane.name}: {what} of interval {interval} in {lane.seen_interval}"
            )
        lane.seen_interval = interval

    def _enter(self, lane: Lane, generation: int) -> None:
        """A message of ``generation`` came: one after each loss that was told, never an older."""
        if generation < lane.generation:
            self._fail("generation", f"{lane.name}: {generation} after {lane.generation}")
        if generation == lane.generation and lane.told:
            self._fail("generation", f"{lane.name}: {generation} after its loss was told")
        if generation > lane.generation:
            if lane.generation >= 0 and not lane.told:
                self._fail("told", f"{lane.name}: {generation} follows, but no loss was told")
            lane.gap = generation > 0
            lane.generation = generation
        lane.told = False

    def _skip_to(self, lane: Lane, number: int) -> None:
        """Rows up to ``number`` (excluded) did not come: they must not have had to."""
        if not lane.gap:
            for missing in range(lane.last_number + 1, number):
                if missing not in lane.optional:
                    self._fail("loss", f"{lane.name}: row {missing} is missing before {number}")
        lane.gap = False
        lane.last_number = max(lane.last_number, number - 1)
