"""Batches for many peers, encoded once.

The bodies of a channel are one Arrow IPC stream. A shared stream is one that several channels
carry: each piece of it is encoded once, and the same buffers are queued for every peer. A
piece needs what came before it in the stream (schema and dictionaries), so a channel takes it
as it is only when the last body it carries is the piece before. To any other channel goes a
body that stands for itself, after which it is in step too: the schema and dictionaries that
it has set are those of the shared stream at that piece.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import pyarrow as pa

from laminar.config import ShuffleConfig
from laminar.shuffle.arrow import BatchEncoder, EncodedBatch, split_rows
from laminar.shuffle.messages import ChannelMessage

Position: TypeAlias = tuple[object, int]
"""A shared stream, and the number of a piece in it."""


class SharedPiece:
    """One frame's worth of a shared stream."""

    def __init__(
        self, batch: pa.RecordBatch, position: Position, body: EncodedBatch, config: ShuffleConfig
    ) -> None:
        self.schema = batch.schema
        self.size = body.size
        self.position = position
        self._batch = batch
        self._body = body
        self._standing_alone = body if body.starts else None
        self._config = config

    def body_after(self, last: Position | None) -> EncodedBatch:
        """What a channel carries whose last body was the piece at ``last``, if it was one.

        Raises :class:`~laminar.errors.BatchTooLargeError` when the dictionaries do not fit.
        """
        stream, number = self.position
        if last is not None and last[0] is stream and last[1] == number - 1:
            return self._body
        if self._standing_alone is None:
            encoder = BatchEncoder(self._config.max_frame_bytes, self._config.compression)
            self._standing_alone = encoder.encode(self._batch)
        return self._standing_alone


class SharedData(NamedTuple):
    """A batch for many peers: a message like ``Data``, which is what each of them receives."""

    pieces: tuple[SharedPiece, ...]
    channel: str


Sendable: TypeAlias = ChannelMessage | SharedData
"""What a link takes."""


def check_message(message: object) -> None:
    """Raise ``TypeError`` unless ``message`` is one that a user sends."""
    if not isinstance(message, Sendable):
        raise TypeError(
            f"expected Data, Barrier, Watermark or End, got {type(message).__name__}; "
            "a batch travels as Data(batch)"
        )


class SharedStream:
    """Encodes batches once for all channels of one name."""

    def __init__(self, channel: str, config: ShuffleConfig) -> None:
        self._channel = channel
        self._config = config
        self._encoder = BatchEncoder(config.max_frame_bytes, config.compression)
        self._pieces = 0

    def encode(self, batch: pa.RecordBatch) -> SharedData:
        """``batch``, cut by rows into frames, as a message for any number of peers.

        Raises :class:`~laminar.errors.BatchTooLargeError` as sending it would.
        """
        config = self._config
        pieces = []
        for rows in split_rows(batch, config.piece_bytes, config.max_frame_bytes):
            body = self._encoder.encode(rows)
            self._pieces += 1
            pieces.append(SharedPiece(rows, (self, self._pieces), body, config))
        return SharedData(tuple(pieces), self._channel)
