"""The window: one mechanism for backpressure, bounded memory and resume.

Both sides count per channel what was sent and not yet consumed: bytes of DATA bodies, and
the number of control frames, which have an allowance of their own. The sender keeps exactly
those frames, and can therefore send again what a lost connection swallowed.
See ``docs/design/window.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from laminar.errors import PeerLostError, ProtocolError

SendBuffer: TypeAlias = bytes | pa.Buffer


class SentFrame(NamedTuple):
    """A frame that the sender keeps until it is consumed."""

    sequence: int
    charge: int
    """Bytes of its DATA body; 0 for a control frame."""
    size: int
    """Bytes on the wire, header included."""
    buffers: Sequence[SendBuffer]


_new_frame = tuple.__new__
"""Makes a named tuple at half the price of calling it."""


class SendWindow:
    """The sender's half: frames from the moment they are queued until they are consumed.

    Invariant: ``consumed < sequences of retained frames < next_sequence``, without gaps; what
    is on the wire never exceeds the limits, but for a single frame larger than the window.
    """

    def __init__(self, window_bytes: int, control_frames: int) -> None:
        self.window_bytes = window_bytes
        self.control_frames = control_frames
        self.next_sequence = 1
        self.consumed = 0
        self.retained: deque[SentFrame] = deque()
        self.unsent: deque[SentFrame] = deque()
        self.retained_bytes = 0
        self.retained_control = 0
        self.inflight_bytes = 0
        """Bytes of DATA bodies handed to the connection and not yet consumed."""
        self.inflight_control = 0
        """Control frames handed to the connection and not yet consumed."""

    def has_room(self, charge: int, ahead: int = 0) -> bool:
        """Whether a DATA body of ``charge`` bytes may be queued, ``ahead`` bytes being first.

        Alone it always may.
        """
        used = self.retained_bytes + ahead
        return used == 0 or used + charge <= self.window_bytes

    def has_control_room(self) -> bool:
        """Whether a control frame may be queued now."""
        return self.retained_control < self.control_frames

    def push(self, charge: int, size: int, buffers: Sequence[SendBuffer]) -> None:
        """Queue the frame with the next sequence number. The caller has asked for room."""
        frame = _new_frame(SentFrame, (self.next_sequence, charge, size, buffers))
        self.next_sequence += 1
        self.retained.append(frame)
        self.unsent.append(frame)
        if charge:
            self.retained_bytes += charge
        else:
            self.retained_control += 1

    def take(self) -> SentFrame | None:
        """The next frame that may go onto the wire, or ``None``."""
        if not self.unsent:
            return None
        charge = self.unsent[0].charge
        # Queued before the peer said how much it is willing to hold, there may be more of it.
        if charge:
            if self.inflight_bytes and self.inflight_bytes + charge > self.window_bytes:
                return None
            self.inflight_bytes += charge
        else:
            if self.inflight_control >= self.control_frames:
                return None
            self.inflight_control += 1
        return self.unsent.popleft()

    @property
    def first_unsent(self) -> int:
        """The sequence number of the next frame to hand to the connection."""
        return self.unsent[0].sequence if self.unsent else self.next_sequence

    def consume(self, sequence: int) -> None:
        """Release everything up to ``sequence``.

        Raises :class:`~laminar.errors.ProtocolError` when it was never sent. An older
        sequence number than the last one says nothing new.
        """
        if sequence >= self.first_unsent:
            raise ProtocolError("credit", f"frame {sequence} was consumed before it was sent")
        retained = self.retained
        while retained and retained[0].sequence <= sequence:
            frame = retained.popleft()
            if frame.charge:
                self.retained_bytes -= frame.charge
                self.inflight_bytes -= frame.charge
            else:
                self.retained_control -= 1
                self.inflight_control -= 1
        self.consumed = max(self.consumed, sequence)

    def rewind(self, received: int, consumed: int) -> None:
        """Prepare a new connection: send again everything after ``received``.

        Raises :class:`~laminar.errors.PeerLostError` when the peer lacks frames that were
        released already, and :class:`~laminar.errors.ProtocolError` when it claims frames
        that were never sent.
        """
        if not consumed <= received < self.next_sequence:
            raise ProtocolError("resume", f"received {received}, consumed {consumed} of a channel")
        if received < self.consumed:
            raise PeerLostError(
                f"the peer has frames up to {received} only, but had consumed {self.consumed}"
            )
        self.unsent = deque(frame for frame in self.retained if frame.sequence > received)
        self.inflight_bytes = self.retained_bytes - sum(frame.charge for frame in self.unsent)
        unsent_control = sum(not frame.charge for frame in self.unsent)
        self.inflight_control = self.retained_control - unsent_control
        self.consume(consumed)


class ReceiveWindow:
    """The receiver's half: what was received and not yet consumed, and what the sender knows."""

    def __init__(self, window_bytes: int, control_frames: int) -> None:
        self.window_bytes = window_bytes
        self.control_frames = control_frames
        self.received = 0
        self.consumed = 0
        self.held_bytes = 0
        self.held_control = 0
        self._reported = 0
        self._unreported_bytes = 0

    def check_room(self, charge: int) -> None:
        """Refuse a DATA body of ``charge`` bytes for which the sender has no credit.

        Raises :class:`~laminar.errors.ProtocolError`.
        """
        if self.held_bytes and self.held_bytes + charge > self.window_bytes:
            raise ProtocolError(
                "credit",
                f"a body of {charge} bytes on top of {self.held_bytes} overdraws the window "
                f"of {self.window_bytes}",
            )

    def receive(self, sequence: int, charge: int) -> bool:
        """Take note of a frame; ``False`` when it is one that is here already.

        Raises :class:`~laminar.errors.ProtocolError` on a gap or when credit is overdrawn.
        """
        if sequence != self.received + 1:
            if 0 < sequence <= self.received:
                return False
            raise ProtocolError("gap", f"frame {sequence} follows frame {self.received}")
        if charge:
            self.check_room(charge)
            self.held_bytes += charge
        else:
            if self.held_control >= self.control_frames:
                raise ProtocolError("credit", f"more than {self.control_frames} control frames")
            self.held_control += 1
        self.received = sequence
        return True

    def consume(self, charge: int) -> bool:
        """The user took the oldest frame; ``True`` when the sender should hear of it."""
        self.consumed += 1
        if charge:
            self.held_bytes -= charge
            self._unreported_bytes += charge
        else:
            self.held_control -= 1
        return (
            self._unreported_bytes * 4 >= self.window_bytes
            or (self.consumed - self._reported) * 4 >= self.control_frames
        )

    @property
    def held(self) -> int:
        """Frames received and not yet consumed."""
        return self.received - self.consumed

    @property
    def unreported(self) -> bool:
        """Whether the sender does not know yet how far the user is."""
        return self.consumed != self._reported

    def report(self) -> int:
        """The sequence number to tell the sender; from now on it counts as told."""
        self._reported = self.consumed
        self._unreported_bytes = 0
        return self.consumed
