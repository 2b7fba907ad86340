"""What can go wrong in a simulated network, how often, and a count of what did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias

from laminar.errors import ConfigError

Fault: TypeAlias = Literal[
    "delay",
    "full_buffer",
    "byte_by_byte",
    "slow_reader",
    "refused",
    "unanswered",
    "reset",
    "one_sided_reset",
    "half_open",
    "partition",
    "one_way_partition",
    "pause",
    "crash",
]

FAULTS: Final[dict[Fault, str]] = {
    "delay": "somebody waited for bytes that were on their way",
    "full_buffer": "a send waited because the connection held all it can hold",
    "byte_by_byte": "one byte was delivered although more were there",
    "slow_reader": "bytes were under way on a connection that crawls",
    "refused": "a dial was turned away",
    "unanswered": "a dial was never answered",
    "reset": "a connection broke under a send",
    "one_sided_reset": "the same, but only one end heard of it; the other got what was sent",
    "half_open": "bytes vanished on a connection that looked alive",
    "partition": "bytes or a dial waited for the hosts to reach each other again",
    "one_way_partition": "the same, where only one direction was cut",
    "pause": "a host that stood still had something to do",
    "crash": "connections were open on a host that vanished",
}
"""Every fault, and what has to happen for it to be counted."""


CHANCES: Final = (
    "yields",
    "refused",
    "unanswered",
    "reset",
    "one_sided",
    "half_open",
    "byte_by_byte",
    "slow_reader",
)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong; chances (0 to 1) are drawn for every dial or connection.

    Raises :class:`~laminar.errors.ConfigError` when a value is out of range.
    """

    delay_s: float = 0.001
    """How long bytes are on their way."""
    jitter_s: float = 0.0
    """Up to how much longer; within a connection, bytes never overtake one another."""
    buffer_bytes: int = 64 * 1024
    """How much one direction of a connection holds, on its way and unread, before sends wait."""
    segment_bytes: int = 16 * 1024
    """Most bytes that travel together: a larger send arrives in pieces."""
    yields: float = 0.5
    """Chance that a call which need not wait lets other tasks run first."""

    refused: float = 0.0
    """Chance that a dial is turned away."""
    unanswered: float = 0.0
    """Chance that a dial is never answered."""
    reset: float = 0.0
    """Chance that a connection breaks, for both ends, after so many bytes:"""
    reset_bytes_max: int = 4096
    """at most this many, both directions together."""
    one_sided: float = 0.0
    """Chance that such a break is heard of at one end only; the other gets what was sent."""
    half_open: float = 0.0
    """Chance that one direction of a connection swallows everything, after so many bytes:"""
    half_open_bytes_max: int = 4096
    """at most this many in that direction."""
    byte_by_byte: float = 0.0
    """Chance that the beginning of a connection is delivered one byte at a time,"""
    byte_by_byte_bytes: int = 96
    """namely so many bytes of each direction."""
    slow_reader: float = 0.0
    """Chance that one direction of a connection crawls, at so many bytes per second:"""
    slow_bytes_per_s: float = 4096.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0:
                raise ConfigError(f"{field.name} must not be negative, got {value!r}")
        for name in CHANCES:
            if getattr(self, name) > 1:
                raise ConfigError(f"{name} is a chance from 0 to 1, got {getattr(self, name)!r}")
        for name in ("buffer_bytes", "segment_bytes", "slow_bytes_per_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be greater than 0, got {getattr(self, name)!r}")


NO_FAULTS: Final = Faults()
"""A network on which nothing goes wrong."""

FaultCounts: TypeAlias = Counter[Fault]
"""How often each fault fired: not how often it was arranged, but how often it bit."""
