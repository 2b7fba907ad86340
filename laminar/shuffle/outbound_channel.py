"""One named lane to a peer: small batches wait for company, frames wait to be consumed.

Pure; see :mod:`laminar.shuffle.outbound`.
"""

from __future__ import annotations

import pyarrow as pa

from laminar.config import ShuffleConfig
from laminar.errors import ChannelEndedError
from laminar.model import VNode
from laminar.shuffle import control
from laminar.shuffle.arrow import (
    BatchEncoder,
    EncodedBatch,
    concat,
    fixed_row_bits,
    has_dictionaries,
)
from laminar.shuffle.blocked import Blocked
from laminar.shuffle.frames import HEADER, HEADER_BYTES, Flag, Kind, encode_frame
from laminar.shuffle.ipc_limits import check_carried
from laminar.shuffle.messages import Barrier, End, Watermark
from laminar.shuffle.schema_watch import KnownSchema, SchemaWatch
from laminar.shuffle.shared import Position, SharedPiece
from laminar.shuffle.statistics import OutboundChannelStatistics
from laminar.shuffle.window import SendWindow

BATCH_OVERHEAD_BYTES = 128
"""What a waiting batch counts for beyond its buffers, so that empty ones are bounded too."""

_NO_SCHEMA = pa.schema([])
_RecordBatch = pa.RecordBatch
_NOTHING_JOINS = -1


class OutboundChannel:
    """What waits to be coalesced, and the window behind it."""

    def __init__(self, name: str, number: int, config: ShuffleConfig, window: SendWindow) -> None:
        control.check_channel_name(name)
        self.name = name
        self.number = number
        self.window = window
        self.ended = False
        self.announced = False
        """Whether the current connection knows this channel's number."""
        self.scheduled = False
        """Whether the channel is in the session's queue of those with something to send."""
        self.waiting = 0
        """Senders that wait for room; the driver's, to keep them in order."""
        self.blocked = Blocked()
        """How long they wait; the driver's too."""
        self._config = config
        self._encoder = BatchEncoder(config.max_frame_bytes, config.compression)
        self._sealed_batches = 0
        self._data_bytes = 0
        self._flush_mark = 1
        # Batches of one schema and vnode that wait for company, and what may still join them.
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._pending_bytes_max = 0
        self._pending_vnode: VNode | None = None
        self._pending_prefix = b""
        self._join_bytes_max = _NOTHING_JOINS
        self._schema = _NO_SCHEMA
        self._row_bits = 0
        """Of a row of that schema, if it is always the same."""
        self._known = KnownSchema(_NO_SCHEMA)
        self._travels_alone = False
        self._watch = SchemaWatch(name, config.schema_change)
        self._in_step_with: Position | None = None
        """The piece of a shared stream that was queued last, if nothing else was since."""

    def join(self, batch: pa.RecordBatch, vnode: VNode | None) -> bool:
        """Let a small batch wait with others like it; ``False``, and nothing done, if it cannot.

        The way of most small batches, and therefore short: a batch that cannot join goes
        through :meth:`push_batch`. Its size here is an upper bound that is cheap to have.
        """
        if (
            vnode != self._pending_vnode
            or type(batch) is not _RecordBatch
            or not batch.schema.equals(self._schema, True)
        ):
            return False
        row_bits = self._row_bits
        size: int = batch.num_rows * row_bits >> 3 if row_bits else batch.get_total_buffer_size()
        waiting = self._pending_bytes + size + BATCH_OVERHEAD_BYTES
        if size > self._join_bytes_max or waiting > self._pending_bytes_max:
            return False
        self._pending.append(batch)
        self._pending_bytes = waiting
        return True

    @property
    def used_bytes(self) -> int:
        """Bytes of data queued here and not yet consumed."""
        return self.window.retained_bytes + self._pending_bytes

    def has_room(self, size: int) -> bool:
        """Whether a batch of ``size`` bytes may be queued now; alone it always may."""
        return self.window.has_room(size, self._pending_bytes)

    def push_batch(self, batch: pa.RecordBatch, size: int, vnode: VNode | None) -> None:
        """Queue a batch that fits a frame and for which there is room.

        ``size`` is its :func:`~laminar.shuffle.arrow.size_of`.
        """
        self._check_open()
        prefix = b"" if vnode is None else control.encode_vnode(vnode)
        schema = batch.schema
        changed = not self._known.matches(schema)
        if changed:
            self.check_schema(schema)
        self.seal()
        if changed:
            self._known = KnownSchema(schema)
            self._schema = schema
            self._row_bits = fixed_row_bits(schema)
            # A batch with dictionaries travels alone: how large they make the frame is only
            # known when it is encoded, and the one who sends it must hear if that is too large.
            self._travels_alone = self._known.subtle or has_dictionaries(schema)
        if size > self._config.coalesce_bytes or self._travels_alone:
            self._push_data(batch, 1, prefix)
            return
        window = self.window
        self._watch.note(schema)
        self._pending.append(batch)
        self._pending_bytes = size + BATCH_OVERHEAD_BYTES
        self._pending_vnode = vnode
        self._pending_prefix = prefix
        self._pending_bytes_max = min(
            self._config.target_frame_bytes, window.window_bytes - window.retained_bytes
        )
        self._join_bytes_max = self._config.coalesce_bytes

    def check_schema(self, schema: pa.Schema) -> None:
        """Raise :class:`~laminar.errors.SchemaError` unless batches of ``schema`` may follow."""
        self._watch.check(schema)
        check_carried(schema)

    def shared_size(self, piece: SharedPiece) -> int:
        """Bytes that ``piece``, of a batch that other channels carry too, would take here.

        Raises what :meth:`push_batch` would.
        """
        self._check_open()
        self._watch.check(piece.schema)
        return piece.body_after(None if self._pending else self._in_step_with).size

    def push_shared(self, piece: SharedPiece) -> None:
        """Queue ``piece``, for which there is room."""
        self.seal()
        self._push_body(piece.body_after(self._in_step_with), 1, b"")
        self._encoder.restart()
        self._in_step_with = piece.position
        self._watch.note(piece.schema)

    def push_message(self, message: Barrier | Watermark | End) -> None:
        """Queue a control message, behind everything queued so far."""
        self._check_open()
        if self._pending:
            self.seal()
        window = self.window
        sequence = window.next_sequence
        if isinstance(message, Watermark):
            frame = control.encode_watermark(message.timestamp, self.number, sequence)
        elif isinstance(message, Barrier):
            body = control.encode_barrier(message.barrier, sequence - 1)
            frame = encode_frame(Kind.BARRIER, body, channel=self.number, sequence=sequence)
        else:
            frame = encode_frame(Kind.END, channel=self.number, sequence=sequence)
            self.ended = True
        window.push(0, len(frame), (frame,))

    def seal(self) -> None:
        """Turn the batches that wait for company into a frame."""
        pending = self._pending
        if not pending:
            return
        self._pending, self._pending_bytes = [], 0
        self._join_bytes_max = _NOTHING_JOINS
        batch = pending[0] if len(pending) == 1 else concat(pending)
        self._push_data(batch, len(pending), self._pending_prefix)

    def _check_open(self) -> None:
        if self.ended:
            raise ChannelEndedError(f"channel {self.name!r} was ended; nothing follows an End")

    def _push_data(self, batch: pa.RecordBatch, batches: int, prefix: bytes) -> None:
        self._push_body(self._encoder.encode(batch), batches, prefix)
        self._in_step_with = None
        self._watch.note(batch.schema)

    def _push_body(self, body: EncodedBatch, batches: int, prefix: bytes) -> None:
        starts, buffers, size = body
        flags: int = Flag.STREAM_START if starts else 0
        if prefix:
            flags |= Flag.VNODE
            size += len(prefix)
        header = HEADER.pack(size, Kind.DATA, flags, self.number, self.window.next_sequence)
        self.window.push(size, HEADER_BYTES + size, (header + prefix, *buffers))
        self._sealed_batches += batches
        self._data_bytes += size

    def mark_flush(self) -> None:
        """A flush is to confirm what is queued until now."""
        self.seal()
        self._flush_mark = self.window.next_sequence

    @property
    def past_flush_mark(self) -> bool:
        """Whether everything before the last mark was handed to the connection, and the name."""
        return self.announced and self.window.first_unsent >= self._flush_mark

    @property
    def pending(self) -> bool:
        """Whether batches wait for company."""
        return bool(self._pending)

    @property
    def used(self) -> bool:
        """Whether anything was queued here that is not yet consumed."""
        return bool(self._pending or self.window.retained)

    @property
    def finished(self) -> bool:
        """Whether its end was consumed: nothing will ever be sent here, or asked for again."""
        return self.ended and not self.used and not self.waiting

    @property
    def idle(self) -> bool:
        """Whether everything was handed to the connection."""
        return not self._pending and not self.window.unsent

    @property
    def queued(self) -> int:
        """Grows with everything that is queued: opening, batches, control frames."""
        return self._sealed_batches + len(self._pending) + self.window.next_sequence

    def statistics(self, now: float) -> OutboundChannelStatistics:
        """A snapshot, at ``now`` seconds of the driver's clock."""
        used_bytes = self.used_bytes
        return OutboundChannelStatistics(
            frames=self.window.next_sequence - 1,
            batches=self._sealed_batches + len(self._pending),
            bytes=self._data_bytes,
            window_used_bytes=used_bytes,
            window_used_frames=len(self.window.retained) + self.pending,
            credit_bytes=max(0, self.window.window_bytes - used_bytes),
            blocked_s=self.blocked.seconds(now),
        )
